package gateway

import (
	"fmt"
	"net/netip"
	"sync"

	"weir/hostabi"
	"weir/proxy/stream"
)

// clients counts what is open by client.
type clients struct {
	mu    sync.Mutex
	total int
	most  int // that total was since ebbed was true last
	byIP  map[netip.Prefix]int
}

func newClients() *clients { return &clients{byIP: map[netip.Prefix]int{}} }

// clientOf is whose an address is: on the Internet each subscriber of IPv6 has all
// addresses of a /64 at least (RFC 6177 §2). Elsewhere, on one link and in private
// networks, each host has a few of one that all share, as IPv4 does in that of its
// translation.
func clientOf(ip netip.Addr) netip.Prefix {
	bits := ip.BitLen()
	if ip.Is6() && !ip.Is4In6() && ip.IsGlobalUnicast() && !ip.IsPrivate() && !translated.Contains(ip) {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // of the zero Addr: the zero Prefix
	return p
}

// translated is where translators put all of IPv4 (RFC 6052 §2.1).
var translated = netip.MustParsePrefix("64:ff9b::/96")

// admit counts one more for the client at ip, unless there are most in all or
// mostOf of that client already (0: no limit), and returns how many there were.
func (c *clients) admit(ip netip.Addr, most, mostOf int) (total, of int, ok bool) {
	client := clientOf(ip)
	c.mu.Lock()
	defer c.mu.Unlock()
	total, of = c.total, c.byIP[client]
	if most > 0 && total >= most || mostOf > 0 && of >= mostOf {
		return total, of, false
	}
	c.total++
	c.most = max(c.most, c.total)
	c.byIP[client]++
	return total, of, true
}

// any reports whether one is open.
func (c *clients) any() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total > 0
}

// crowd is how many make one.
const crowd = 32

// ebbed reports whether of a crowd half or more have left since it did last.
func (c *clients) ebbed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if gone := c.most - c.total; gone < crowd || gone < c.total {
		return false
	}
	c.most = c.total
	return true
}

func (c *clients) remove(ip netip.Addr) {
	client := clientOf(ip)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.byIP[client]--; c.byIP[client] == 0 {
		delete(c.byIP, client)
	}
}

// tooMany says which limit admit found reached for ip; where it holds stands
// behind the count, "" being the whole process.
func tooMany(ip netip.Addr, where string, total, of, most, mostOf int) *stream.Fault {
	if mostOf > 0 && of >= mostOf {
		from := ip.String()
		if p := clientOf(ip); !p.IsSingleIP() {
			from = p.String()
		}
		return &stream.Fault{
			Code: hostabi.TooManyConnections, Limit: int64(mostOf), Actual: int64(of),
			Message: fmt.Sprintf("%d connections are open from %s%s, max_connections_per_ip is %d", of, from, where, mostOf),
		}
	}
	return &stream.Fault{
		Code: hostabi.TooManyConnections, Limit: int64(most), Actual: int64(total),
		Message: fmt.Sprintf("%d connections are open%s, max_connections is %d", total, where, most),
	}
}
