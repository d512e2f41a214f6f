package gateway

import (
	"fmt"
	"net/netip"
	"sync"

	"weir/hostabi"
	"weir/proxy/stream"
)

// clients counts what is open by client address.
type clients struct {
	mu    sync.Mutex
	total int
	byIP  map[netip.Addr]int
}

func newClients() *clients { return &clients{byIP: map[netip.Addr]int{}} }

// admit counts one more for ip, unless there are most in all or mostOf of ip
// already (0: no limit), and returns how many there were.
func (c *clients) admit(ip netip.Addr, most, mostOf int) (total, of int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	total, of = c.total, c.byIP[ip]
	if most > 0 && total >= most || mostOf > 0 && of >= mostOf {
		return total, of, false
	}
	c.total++
	c.byIP[ip]++
	return total, of, true
}

func (c *clients) remove(ip netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.byIP[ip]--; c.byIP[ip] == 0 {
		delete(c.byIP, ip)
	}
}

// tooMany says which limit admit found reached for ip; where it holds stands
// behind the count, "" being the whole process.
func tooMany(ip netip.Addr, where string, total, of, most, mostOf int) *stream.Fault {
	if mostOf > 0 && of >= mostOf {
		return &stream.Fault{
			Code: hostabi.TooManyConnections, Limit: int64(mostOf), Actual: int64(of),
			Message: fmt.Sprintf("%d connections are open from %s%s, max_connections_per_ip is %d", of, ip, where, mostOf),
		}
	}
	return &stream.Fault{
		Code: hostabi.TooManyConnections, Limit: int64(most), Actual: int64(total),
		Message: fmt.Sprintf("%d connections are open%s, max_connections is %d", total, where, most),
	}
}
