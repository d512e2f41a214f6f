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

// add counts one more for ip and returns how many there are in all and of ip.
func (c *clients) add(ip netip.Addr) (total, of int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total++
	c.byIP[ip]++
	return c.total, c.byIP[ip]
}

func (c *clients) remove(ip netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.byIP[ip]--; c.byIP[ip] == 0 {
		delete(c.byIP, ip)
	}
}
