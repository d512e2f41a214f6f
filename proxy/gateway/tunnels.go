package gateway

import (
	"maps"
	"slices"
	"strings"

	"weir/hostabi"
	"weir/proxy/relay"
)

// start runs a tunnel and keeps track of it until it is forgotten.
func (g *Gateway) start(t *relay.Tunnel) {
	g.mu.Lock()
	g.tunnels[t.ID()] = t
	draining := g.draining.Load()
	g.mu.Unlock()
	t.Run()
	if draining {
		t.Drain(g.retryHint())
	}
}

func (g *Gateway) forget(t *relay.Tunnel) {
	g.mu.Lock()
	delete(g.tunnels, t.ID())
	g.mu.Unlock()
}

// count is how many tunnels there are.
func (g *Gateway) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.tunnels)
}

// all returns the tunnels there are, in no order.
func (g *Gateway) all() []*relay.Tunnel {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Values(g.tunnels))
}

// open returns the tunnels there are, the oldest first.
func (g *Gateway) open() []*relay.Tunnel { return byAge(g.all()) }

func byAge(ts []*relay.Tunnel) []*relay.Tunnel {
	slices.SortFunc(ts, func(a, b *relay.Tunnel) int {
		if n := len(a.ID()) - len(b.ID()); n != 0 {
			return n
		}
		return strings.Compare(a.ID(), b.ID())
	})
	return ts
}

// inflight is how many messages wait toward upstreams.
func (g *Gateway) inflight() float64 {
	n := int64(0)
	for _, t := range g.all() {
		n += t.Info().Flow[hostabi.ToUpstream].QueuedMessages
	}
	return float64(n)
}
