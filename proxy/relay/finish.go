package relay

import (
	"fmt"
	"sync"
	"time"

	"weir/hostabi"
	"weir/proxy/flow"
	"weir/proxy/metrics"
	"weir/proxy/policy"
	"weir/proxy/wsframe"
)

const (
	closeTimeout  = 5 * time.Second  // for the other peer's close frame, and for ours to be taken
	lingerTimeout = time.Second      // for a peer to close its side after ours
	finishTimeout = 30 * time.Second // for what waits to be delivered, while it moves
)

// closeReceived notes that the leg of direction d sent its close frame, which
// has been passed on. The second one ends the tunnel; so does waiting too long
// for it.
func (t *Tunnel) closeReceived(d hostabi.Direction, code uint16, reason string) *Cause {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.halves++
	if t.halves == 2 {
		return t.first
	}
	t.first = &Cause{Initiator: sender(d), Code: code, Reason: reason}
	if !t.stopped {
		t.grace = time.AfterFunc(closeTimeout, func() { t.end(*t.first) })
	}
	return nil
}

func (t *Tunnel) ended() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// finish closes both legs, each with a proper close frame, after both pumps
// have returned.
func (t *Tunnel) finish() {
	t.stopTimers()
	t.answerLost()
	var both sync.WaitGroup
	for d := range t.legs {
		both.Go(func() { t.guard(func() { t.finishLeg(hostabi.Direction(d)) }) })
	}
	both.Wait()
	t.o.Metrics.Connections(metrics.StateClosing).Dec()
	t.o.Metrics.Closes(t.cause.Code, t.cause.Initiator).Inc()
	t.logClosed()
	if t.o.Closed != nil {
		t.o.Closed(t)
	}
}

// answerLost tells the client about messages that were accepted and can not be
// delivered, because the upstream is gone.
func (t *Tunnel) answerLost() {
	up, down := &t.legs[hostabi.ToClient].sink, &t.legs[hostabi.ToUpstream].sink
	if t.cause.Fault != hostabi.UpstreamClosed && t.cause.Fault != hostabi.UpstreamTimeout {
		return
	}
	up.mu.Lock()
	n := up.queue.Messages()
	if up.lent != nil {
		n++
	}
	up.mu.Unlock()
	if n == 0 {
		return
	}
	view := t.o.Route.Load().View
	env := view.Envelope(hostabi.UpstreamClosed, hostabi.WebSocket, hostabi.ToUpstream)
	if env == nil || env.Recipient != hostabi.ToSender {
		return
	}
	f := view.Fault(hostabi.UpstreamClosed)
	wire := envelopeFrame(env, &policy.Values{
		Code: hostabi.UpstreamClosed, Message: fmt.Sprintf("%d messages were waiting for the upstream when its connection ended", n),
		Retryable: f.Retryable, RetryAfterMS: f.RetryAfter.Milliseconds(), Limit: -1, Actual: -1, Count: int64(n), TraceID: t.o.TraceID,
	}, hostabi.ToClient)
	down.mu.Lock()
	if !down.closing && !down.inMessage {
		down.queue.Push(flow.Message{Wire: wire, Control: true})
	}
	down.mu.Unlock()
}

// finishLeg delivers what waits toward one leg, sends the close frame unless
// one was sent, and closes the connection so that the peer can read it all.
func (t *Tunnel) finishLeg(d hostabi.Direction) {
	l := &t.legs[d]
	if l.sink.finish(t.cause.Code, t.cause.Reason, t.cause.skip[d]) {
		_ = l.tr.CloseWrite()
		_ = l.tr.SetReadDeadline(time.Now().Add(lingerTimeout))
		for {
			if _, err := l.tr.ReadTo((*discard)(nil)); err != nil {
				break
			}
		}
	}
	_ = l.tr.Close()
	l.sink.release()
}

// finish writes the rest. False: the peer could not be told in order.
func (s *sink) finish(code uint16, reason string, skip bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.inMessage {
		return s.abandon()
	}
	if skip {
		s.queue.Clear()
		if !s.begun {
			s.lent = nil
		}
	}
	if !s.closing {
		s.closing = true
		wire := wsframe.AppendClose(nil, code, reason, newMask(s.dir))
		if s.lent != nil && !s.begun {
			s.lent = append(s.lent, wire...)
		} else {
			s.queue.Push(flow.Message{Wire: wire, Control: true})
		}
	}
	s.write()
	wait := s.limits.SlowConsumerGrace
	if skip {
		wait = closeTimeout
	}
	over := time.Now().Add(max(finishTimeout, wait))
	for s.writing && s.err == nil {
		before := s.moved
		timer := time.AfterFunc(wait, s.wakeUp)
		deadline := time.Now().Add(wait)
		for s.writing && s.err == nil && time.Now().Before(deadline) {
			s.wake.Wait()
		}
		timer.Stop()
		if s.writing && (s.moved.Equal(before) || skip || time.Now().After(over)) {
			return s.abandon()
		}
	}
	return s.err == nil
}

// abandon ends a writer that still waits, and joins it.
func (s *sink) abandon() bool {
	_ = s.leg.tr.SetWriteDeadline(time.Unix(1, 0))
	for s.writing {
		s.wake.Wait()
	}
	return false
}

func (s *sink) wakeUp() {
	s.mu.Lock()
	s.wake.Broadcast()
	s.mu.Unlock()
}

// release counts what was not delivered and gives its memory back.
func (s *sink) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := s.queue.Messages()
	if s.lent != nil {
		lost++
	}
	if lost > 0 {
		s.t.o.Metrics.Dropped(metrics.DroppedClosed).Add(float64(lost))
	}
	s.queue.Close()
	s.lent, s.deferred = nil, nil
	s.settle(&s.t.pumps[s.dir])
}

// discard takes bytes that nobody reads any more.
type discard struct{}

func (*discard) Space() []byte { return make([]byte, 4<<10) }
func (*discard) Idle()         {}
