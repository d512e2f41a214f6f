package relay

import (
	"fmt"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/metrics"
)

// armWatch starts the one timer of the tunnel: pings and idleness.
func (t *Tunnel) armWatch() {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := &t.o.Route.Load().Limits
	if !t.stopped {
		t.watch = time.AfterFunc(watchStep(l), func() { t.guard(t.look) })
	}
}

// watchStep is how long the tunnel may go unobserved.
func watchStep(l *config.Limits) time.Duration {
	if l.PingInterval > 0 {
		return min(l.PingInterval, l.IdleTimeout)
	}
	return l.IdleTimeout
}

// look ends the tunnel when it is idle or a peer is gone, and pings quiet peers.
func (t *Tunnel) look() {
	l := &t.o.Route.Load().Limits
	now := t.since(time.Now())
	idle := time.Duration(now - t.lastMessage.Load())
	if idle >= l.IdleTimeout {
		t.end(Cause{Initiator: metrics.ByWeir, Code: closeGoingAway, Reason: fmt.Sprintf("idle_timeout: no message for %v", l.IdleTimeout)})
		return
	}
	next := l.IdleTimeout - idle
	if l.PingInterval > 0 {
		for d := range t.legs {
			wait, alive := t.legs[d].poke(now, l.PingInterval)
			if !alive {
				t.end(*t.silent(hostabi.Direction(d), l.PingInterval))
				return
			}
			next = min(next, wait)
		}
	}
	t.mu.Lock()
	if !t.stopped {
		t.watch.Reset(next)
	}
	t.mu.Unlock()
}

// poke pings a peer that has been quiet for interval. It returns when to look
// again, and false for one that has not answered a ping for as long.
func (l *leg) poke(now int64, interval time.Duration) (time.Duration, bool) {
	alive := max(l.lastRead.Load(), l.sink.lastMoved())
	pinged := l.pinged.Load()
	if pinged != 0 && alive > pinged {
		l.pinged.Store(0)
		pinged = 0
	}
	if pinged != 0 {
		left := interval - time.Duration(now-pinged)
		return max(left, time.Millisecond), left > 0
	}
	if quiet := time.Duration(now - alive); quiet < interval {
		return interval - quiet, true
	}
	l.pinged.Store(now)
	l.sink.ping()
	return interval, true
}

// silent is the cause when a peer is found half-open.
func (t *Tunnel) silent(d hostabi.Direction, interval time.Duration) *Cause {
	what := fmt.Sprintf("no answer to a ping for %v", interval)
	if d == hostabi.ToClient {
		return t.faultCause(metrics.ByWeir, d, hostabi.UpstreamTimeout, what)
	}
	return &Cause{Initiator: metrics.ByWeir, Code: closeGoingAway, Reason: "ping_timeout: " + what}
}

// stopTimers makes sure that no timer of the tunnel fires any more.
func (t *Tunnel) stopTimers() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	if t.watch != nil {
		t.watch.Stop()
	}
	if t.grace != nil {
		t.grace.Stop()
	}
}
