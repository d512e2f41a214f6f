package relay

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/metrics"
	"weir/proxy/poll"
)

// watchMost is how long a tunnel goes unobserved at most, whatever its limits are: a
// reload may have changed them.
const watchMost = 30 * time.Second

// armWatch starts the one timer of the tunnel: pings and idleness.
func (t *Tunnel) armWatch() {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := &t.o.Route.Load().Limits
	if !t.stopped {
		step := watchStep(l)
		t.due = t.since(time.Now()) + int64(step)
		t.watch = time.AfterFunc(step, func() { t.guard(t.look) })
	}
}

// lookAgain has the tunnel looked at once more after wait.
func (t *Tunnel) lookAgain(now int64, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.stopped {
		t.due = now + int64(wait)
		t.watch.Reset(wait)
	}
}

// watchStep is how long the tunnel may go unobserved.
func watchStep(l *config.Limits) time.Duration {
	step := min(l.IdleTimeout, watchMost)
	if l.PingInterval > 0 {
		step = min(step, l.PingInterval)
	}
	return step
}

// look ends the tunnel when it is idle or a peer is gone, and pings quiet peers.
// Once its end has a cause it looks no more: a leg that has sent its close frame is
// not read, and its silence proves nothing (RFC 6455 §5.5.1); closeTimeout bounds
// the rest.
func (t *Tunnel) look() {
	if t.known() != nil {
		return
	}
	l := &t.o.Route.Load().Limits
	now := t.since(time.Now())
	if now-t.due > int64(poll.Late) {
		t.lookAgain(now, poll.Late)
		return
	}
	idle := time.Duration(now - max(t.lastMessage.Load(), t.lastMoved()))
	if idle >= l.IdleTimeout {
		t.end(Cause{Initiator: metrics.ByWeir, Code: closeGoingAway, Reason: fmt.Sprintf("idle_timeout: no message for %v", l.IdleTimeout)})
		return
	}
	next := min(l.IdleTimeout-idle, watchMost)
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
	t.lookAgain(now, next)
}

// lastMoved is the sinks': either's.
func (t *Tunnel) lastMoved() int64 {
	return max(t.legs[0].sink.lastMoved(), t.legs[1].sink.lastMoved())
}

// poke pings a peer that has been quiet for interval. It returns when to look
// again, and false for one that has not answered a ping for as long. A peer
// that is not read for now is not judged.
func (l *leg) poke(now int64, interval time.Duration) (time.Duration, bool) {
	alive := max(l.lastRead.Load(), l.sink.lastMoved())
	pinged := l.pinged.Load()
	if l.paused.Load() || alive > pinged {
		l.pinged.Store(0)
		pinged = 0
	}
	switch quiet := time.Duration(now - alive); {
	case l.paused.Load():
		return interval, true
	case pinged != 0:
		left := interval - time.Duration(now-pinged)
		return max(left, time.Millisecond), left > 0
	case quiet < interval:
		return interval - quiet, true
	}
	if l.token.Load() == 0 {
		l.token.Store(rand.Uint64() | 1)
	}
	l.pinged.Store(now) // before the answer can come
	if !l.sink.ping(binary.BigEndian.AppendUint64(nil, l.token.Load())) {
		l.pinged.Store(0)
	}
	return interval, true
}

// answered reports whether payload is a pong's to one of Weir's own pings,
// which goes no further.
func (l *leg) answered(payload []byte) bool {
	token := l.token.Load()
	if token == 0 || len(payload) != 8 || binary.BigEndian.Uint64(payload) != token {
		return false
	}
	l.pinged.Store(0)
	return true
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
