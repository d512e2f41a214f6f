package relay

import (
	"errors"
	"fmt"
	"io"
	"time"

	"weir/hostabi"
	"weir/proxy/metrics"
	"weir/proxy/poll"
	"weir/proxy/wsframe"
)

// Cause is why a tunnel ends: the first one counts.
type Cause struct {
	Initiator metrics.Initiator
	Fault     hostabi.FaultCode // empty: no fault
	Code      uint16            // close code for the legs that got no close frame yet
	Reason    string            // close reason, at most 123 bytes are sent

	direction string  // of the messages that the fault is about, for the log; empty: of none
	skip      [2]bool // legs toward which what still waits is dropped, not delivered
}

// Error says it in a log line.
func (c *Cause) Error() string { return fmt.Sprintf("%d %s", c.Code, c.Reason) }

// Close codes that Weir uses on its own account (RFC 6455 §7.4.1).
const (
	closeNormal    = 1000
	closeGoingAway = 1001
)

// Close ends the tunnel with c unless it is ending already: the upstream is told
// first, and the client when the upstream has answered, so that what that had
// sent by then arrives. Where a close handshake is under way already, Weir's own or
// the peers', its answer is not waited for any more, and its cause stays. Where the
// tunnel has ended, a peer that has not taken what is left for it is reset.
func (t *Tunnel) Close(c Cause) {
	if !t.ended() {
		t.close(c)
		return
	}
	for d := range t.legs {
		t.guard(t.legs[d].sink.giveUp)
	}
}

func (t *Tunnel) close(c Cause) {
	if !t.leave(&c) || !t.legs[hostabi.ToClient].sink.sayClose(c.Code, c.Reason) {
		t.end(*t.known())
	}
}

// Drain closes the tunnel because the server shuts down. retry is how long the
// client should wait before it comes back. A close handshake that is under way goes on,
// unless this was called before.
func (t *Tunnel) Drain(retry time.Duration) {
	if again := t.drained.Swap(true); !again && t.known() != nil {
		return
	}
	t.close(*t.faultCause(metrics.ByWeir, hostabi.ToUpstream, hostabi.Draining, fmt.Sprintf("retry_after_ms=%d", retry.Milliseconds())))
}

// leave notes that Weir ends the tunnel with c as soon as the upstream has
// answered, or has had time to. False: something else came first.
func (t *Tunnel) leave(c *Cause) bool {
	t.lastMoved() // as in closePassed
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first != nil {
		return false
	}
	t.first, t.leaving = c, true
	t.awaitAnswer(closeTimeout, time.Now().Add(finishTimeout))
	return true
}

// awaitAnswer ends the tunnel when wait is over in which an answer to a close frame
// could have come: closeTimeout, and again while a peer takes what stands before the
// frame, or before the answer, or that comes; at the latest behind end. t.mu is held.
func (t *Tunnel) awaitAnswer(wait time.Duration, end time.Time) {
	t.after(wait, func() {
		more := max(t.legs[0].sink.answerTime(), t.legs[1].sink.answerTime())
		if more <= 0 || !time.Now().Before(end) {
			t.end(*t.known())
			return
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.awaitAnswer(more, end)
	})
}

// end records the first cause and wakes everything that waits in the tunnel.
func (t *Tunnel) end(c Cause) {
	t.ending.Do(func() {
		defer t.oneLess()
		t.cause = c
		close(t.done)
		past := time.Unix(1, 0)
		for d := range t.legs {
			t.legs[d].sink.stop()
			t.pumps[d].interrupt()
			t.panics.Contain(func() { _ = t.legs[d].tr.SetReadDeadline(past) })
		}
		t.o.Metrics.Connections(metrics.StateOpen).Dec()
		t.o.Metrics.Connections(metrics.StateClosing).Inc()
		if c.Fault != "" {
			t.o.Metrics.Fault(c.Fault).Inc()
		}
	})
}

// faultCause builds the cause of a fault that ends a tunnel: its close code is
// the policy's or the catalogue's, its reason names the fault and says more.
func (t *Tunnel) faultCause(by metrics.Initiator, d hostabi.Direction, code hostabi.FaultCode, detail string) *Cause {
	c := &Cause{Initiator: by, Fault: code, Reason: string(code)}
	if detail != "" {
		c.Reason += ": " + detail
	}
	if e := t.o.Route.Load().View.Envelope(code, hostabi.WebSocket, d); e != nil {
		c.Code = e.Close
	}
	if c.Code == 0 {
		f, _ := hostabi.Lookup(code)
		c.Code = max(f.Close, closeNormal)
	}
	return c
}

// messageFault is the cause when Weir ends a tunnel for messages of direction d.
func (t *Tunnel) messageFault(d hostabi.Direction, code hostabi.FaultCode, detail string) *Cause {
	c := t.faultCause(metrics.ByWeir, d, code, detail)
	c.direction = directionName(d)
	return c
}

// sender names the peer that messages of direction d come from.
func sender(d hostabi.Direction) metrics.Initiator {
	if d == hostabi.ToUpstream {
		return metrics.ByClient
	}
	return metrics.ByUpstream
}

// lost is the cause when a leg's connection ends without a close frame, unless
// there is an earlier one.
func (t *Tunnel) lost(d hostabi.Direction, err error) *Cause {
	if first := t.known(); first != nil {
		return first
	}
	what := "connection lost"
	if errors.Is(err, io.EOF) {
		what = "connection ended without a close frame"
	}
	if d == hostabi.ToClient {
		return t.faultCause(metrics.ByUpstream, d, hostabi.UpstreamClosed, what)
	}
	return &Cause{Initiator: metrics.ByClient, Code: closeGoingAway, Reason: "client " + what}
}

// broken is the cause when a peer breaks RFC 6455.
func (t *Tunnel) broken(d hostabi.Direction, err error) *Cause {
	c := t.messageFault(d, hostabi.ProtocolError, err.Error())
	var we *wsframe.Error
	if errors.As(err, &we) && we.Code != 1002 {
		c.Code = we.Code
	}
	return c
}

// endSoon ends the tunnel with c, which says that the leg of direction d takes nothing
// any more, when nothing of what its peer had sent has come, or waited for the other
// peer, for lossTimeout, unless something else ends it before.
func (t *Tunnel) endSoon(d hostabi.Direction, c *Cause) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first == nil {
		t.first, t.guessed = c, true
		t.awaitRest(d)
	}
}

// awaitRest is the wait of endSoon. t.mu is held.
func (t *Tunnel) awaitRest(d hostabi.Direction) {
	in := &t.legs[d]
	t.after(lossTimeout, func() {
		if !in.paused.Load() && t.since(time.Now())-in.lastRead.Load() >= int64(lossTimeout) {
			t.end(*t.known())
			return
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.halves == 0 { // else a close frame has come, and its answer is waited for
			t.awaitRest(d)
		}
	})
}

// known returns what is known to have come first; nil: nothing yet.
func (t *Tunnel) known() *Cause {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first
}

// after calls f after d, or after poll.Late, in the place of what was to be called
// before. t.mu is held.
func (t *Tunnel) after(d time.Duration, f func()) {
	if t.stopped {
		return
	}
	if t.grace != nil {
		t.grace.Stop()
	}
	var timer *time.Timer
	due := time.Now().Add(d)
	timer = time.AfterFunc(d, func() {
		t.guard(func() {
			if time.Since(due) <= poll.Late {
				f()
				return
			}
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.grace == timer {
				t.after(poll.Late, f)
			}
		})
	})
	t.grace = timer
}

// guard turns a panic into the end of this tunnel alone. Whatever goroutine
// works for a tunnel does so under a guard; what has to be done however a step
// before it ended is under one of its own. What is part of ending is under
// t.panics.Contain.
func (t *Tunnel) guard(f func()) (ok bool) {
	if ok = t.panics.Contain(f); !ok {
		t.end(Cause{Initiator: metrics.ByWeir, Code: 1011, Reason: "internal error", skip: [2]bool{true, true}})
	}
	return ok
}

// panicked counts and tells a panic.
func (t *Tunnel) panicked(v any, stack []byte) {
	t.o.Metrics.Panics(metrics.InTunnel).Inc()
	t.o.Log.Error("panic", "in", metrics.InTunnel.String(), "tunnel", t.o.ID, "route", t.o.Route.Name, "panic", fmt.Sprint(v), "stack", string(stack))
}
