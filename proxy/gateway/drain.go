package gateway

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"weir/hostabi"
	"weir/proxy/http1"
	"weir/proxy/relay"
	"weir/proxy/stream"
)

func (g *Gateway) isDraining() bool {
	return g.draining.Load()
}

// setDraining has tunnels that start from here on drained by start, and returns those
// that are not. Who is told twice ends at once.
func (g *Gateway) setDraining() (untold []*relay.Tunnel) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.draining.Swap(true) {
		return nil
	}
	return byAge(slices.Collect(maps.Values(g.tunnels)))
}

// drainShare is the part of drain_timeout over which tunnels are told to leave,
// one after the other, so that their clients do not come back at once: half.
const drainShare = 2

// firstRequest is how long, in a drain, a connection may take for its first request: it
// may be on its way already, or a TLS handshake.
const firstRequest = time.Second

// drain refuses new work, lets what is in flight finish and tells every tunnel
// to leave, for at most drain_timeout.
func (g *Gateway) drain() {
	timeout := g.current.Load().cfg.Server.DrainTimeout
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	tunnels := g.setDraining()
	g.log.Info("draining", "tunnels", len(tunnels), "drain_timeout_ms", timeout.Milliseconds())
	g.http.Drain()
	if n := len(tunnels); n > 0 {
		tick := time.NewTicker(max(timeout/drainShare/time.Duration(n), time.Microsecond))
		defer tick.Stop()
		for i, t := range tunnels {
			t.Drain(g.retryHint())
			if i == n-1 {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}
	soon, cancel := context.WithTimeout(ctx, firstRequest)
	defer cancel()
	err := g.http.Wait(soon) // first: a handshake under way becomes a tunnel, which start has told to leave
	if err != nil {
		g.http.Dismiss()
		err = g.http.Wait(ctx)
	}
	g.waitTunnels(ctx)
	if left := g.count(); err != nil || left > 0 {
		g.log.Warn("drain_timeout passed with work in flight", "drain_timeout_ms", timeout.Milliseconds(),
			"tunnels", left, "requests", g.http.Requests())
		return
	}
	g.log.Info("drained")
}

// retryHint is when a client may come back: spread over drain_timeout, so that
// the next server is not met by all of them at once.
func (g *Gateway) retryHint() time.Duration {
	return rand.N(g.current.Load().cfg.Server.DrainTimeout) + time.Millisecond // 0 would be told as at once
}

// waitTunnels returns when no tunnel is left, or ctx ends.
func (g *Gateway) waitTunnels(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for g.count() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// endTunnels closes what a drain left over.
func (g *Gateway) endTunnels() {
	for _, t := range g.all() {
		t.Drain(g.retryHint())
	}
}

func (g *Gateway) drainFault() stream.Fault {
	return stream.Fault{Code: hostabi.Draining, Message: "the server is shutting down", RetryAfter: g.retryHint()}
}

// refuseLate answers connections that came while draining.
func (g *Gateway) refuseLate(x *http1.Exchange) {
	conn, _ := x.Conn().(*clientConn)
	gen := g.acquire(conn.loop())
	defer gen.release(conn.loop())
	client := stream.ClientOf(x.Conn(), &x.Req, gen.cfg.Server.TrustedProxies)
	view := native
	f := g.drainFault()
	path, _ := pathOf(x.Req.Target)
	if rt := gen.router.match(x.Req.Host, path); rt != nil {
		view, f.Route = rt.View, rt.Name
	}
	f.Client, f.ID = client, stream.NewRequestID(&x.Req, client.Trusted)
	x.CloseAfter()
	g.proxy.Refuse(x, view, f)
}
