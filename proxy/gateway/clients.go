package gateway

import (
	"net/netip"
	"sync"
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
