package relay

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"weir/hostabi"
	"weir/proxy/flow"
	"weir/proxy/metrics"
	"weir/proxy/policy"
	"weir/proxy/wsframe"
)

const (
	closeTimeout  = 5 * time.Second // for the other peer's close frame, and for ours to be taken
	lossTimeout   = time.Second     // for the next message of a peer that takes none any more
	lingerTimeout = time.Second     // for a peer to close its side after ours
	finishTimeout = 5 * time.Minute // for what waits to be delivered, while it moves
)

// closeReceived notes that the leg of direction d sent a close frame, before it
// is passed on: the answer to it must not come first.
func (t *Tunnel) closeReceived(d hostabi.Direction, code uint16, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first == nil || t.guessed && t.first.Initiator == sender(d) {
		t.first, t.guessed = &Cause{Initiator: sender(d), Code: code, Reason: reason}, false
	}
}

// answersOurs reports whether a close frame that the leg of direction d sent is
// the upstream's answer to Weir's own, and returns what that was sent for.
func (t *Tunnel) answersOurs(d hostabi.Direction) *Cause {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.leaving || d != hostabi.ToClient {
		return nil
	}
	return t.first
}

// closePassed notes that a close frame has been passed on. The second one ends
// the tunnel; so does waiting too long for it.
func (t *Tunnel) closePassed() *Cause {
	t.lastMoved() // from here on whoever takes what waits is seen to
	t.mu.Lock()
	defer t.mu.Unlock()
	t.halves++
	if t.halves == 2 {
		return t.first
	}
	if !t.leaving { // else it is given already
		t.awaitAnswer(closeTimeout, time.Now().Add(finishTimeout))
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
	t.guard(t.answerLost)
	var other sync.WaitGroup
	other.Go(func() { t.guard(func() { t.finishLeg(hostabi.ToUpstream) }) })
	t.guard(func() { t.finishLeg(hostabi.ToClient) })
	other.Wait()
	t.writers.Wait()
	t.o.Metrics.Connections(metrics.StateClosing).Dec()
	t.o.Metrics.Closes(t.cause.Code, t.cause.Initiator).Inc()
	t.guard(t.logClosed)
	if t.o.Closed != nil {
		t.guard(func() { t.o.Closed(t) })
	}
}

// answerLost tells the client about messages that were accepted and can not be
// delivered, because the upstream is gone. Should it read on nevertheless, it does
// not get them: the client may have sent them again.
func (t *Tunnel) answerLost() {
	if t.cause.Fault != hostabi.UpstreamClosed && t.cause.Fault != hostabi.UpstreamTimeout {
		return
	}
	up, down := &t.legs[hostabi.ToClient].sink, &t.legs[hostabi.ToUpstream].sink
	up.mu.Lock()
	n := int64(up.queue.Messages()) + t.pumps[hostabi.ToUpstream].lost.n.Load()
	up.dropped(up.queue.Clear())
	up.severed = up.queue.Messages() > 0
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
		Retryable: f.Retryable, RetryAfterMS: f.RetryAfter.Milliseconds(), Limit: -1, Actual: -1, Count: n, TraceID: t.o.TraceID,
	}, hostabi.ToClient)
	down.mu.Lock()
	defer down.mu.Unlock()
	if !down.closing && down.takeBack() {
		down.queue.Lend(flow.Message{Wire: wire, Own: true})
	}
}

// finishLeg delivers what waits toward one leg, sends the close frame unless
// one was sent, and closes the connection so that the peer can read it all: not while
// the kernel still has something for it, since a message that the peer sends would then
// have it reset. A peer that takes nothing is reset: the kernel would keep its bytes
// for long.
func (t *Tunnel) finishLeg(d hostabi.Direction) {
	l := &t.legs[d]
	end := l.tr.Abort
	defer l.sink.release()
	defer func() { t.guard(func() { _ = end() }) }()
	_ = l.tr.SetReadDeadline(time.Time{})
	silent := make(chan struct{})
	if l.silent {
		close(silent)
	} else {
		go t.hearOut(l, silent)
	}
	defer func() {
		t.guard(func() { _ = l.tr.SetReadDeadline(time.Unix(1, 0)) })
		<-silent
	}()
	if !l.sink.finish(t.cause.Code, t.cause.Reason, t.cause.skip[d]) {
		return
	}
	end = l.tr.Close
	_ = l.tr.CloseWrite()
	over := silent
	for began := time.Now(); ; {
		select {
		case <-over: // it says no more, and may take the rest
			over = nil
		case <-time.After(lingerTimeout):
		}
		left, moves := l.sink.delivering(began)
		if !moves && left {
			end = l.tr.Abort
		}
		if !moves || time.Since(began) >= finishTimeout {
			return
		}
	}
}

// hearOut reads what the peer of a leg that ends still says, until it says no more or a
// read deadline passes. Nobody gets it, but a peer that has to be rid of it before it
// reads on could not take what waits for it. Others have their turn behind each read.
func (t *Tunnel) hearOut(l *leg, silent chan<- struct{}) {
	defer close(silent)
	rest := &discard{}
	defer rest.Idle()
	t.guard(func() {
		for {
			if _, err := l.tr.ReadTo(rest); err != nil {
				return
			}
			runtime.Gosched() // what a peer that never pauses says is always here: nothing waits for it
		}
	})
}

// finish writes the rest. Behind a part of a large message no close frame can stand,
// but what came before it has to arrive. False: the peer is to be reset.
func (s *sink) finish(code uint16, reason string, skip bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.over = true }()
	cut := s.err == nil && !s.takeBack()
	if s.err != nil || cut && skip {
		return s.abandon()
	}
	if s.severed {
		s.abandon()
		return s.leg.tr.Pending() == 0 // else what is encrypted would go out with close_notify
	}
	patience, over := s.patience(), finishTimeout
	if skip {
		s.dropped(s.queue.Clear())
		patience, over = closeTimeout, closeTimeout
	}
	if !s.closing && !cut {
		s.endWith(code, reason)
	}
	s.write()
	end := time.Now().Add(over)
	s.look()
	for s.writing {
		before := s.moved
		s.waitWriter(min(patience, time.Until(end)))
		s.look()
		if s.writing && (s.moved.Equal(before) || !time.Now().Before(end)) {
			return s.abandon()
		}
	}
	return s.err == nil
}

// endWith sends a close frame, behind what waits.
func (s *sink) endWith(code uint16, reason string) {
	s.closing = true
	s.control(wsframe.AppendClose(nil, code, reason, newMask(s.dir)))
}

// sayClose is endWith while the tunnel goes on, behind a large message that is being
// passed through. False: nothing can be sent any more.
func (s *sink) sayClose(code uint16, reason string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.gone() || s.closing:
		return false
	case s.inMessage:
		s.farewell = func() { s.endWith(code, reason) }
	default:
		s.endWith(code, reason)
	}
	return true
}

// waitWriter waits until the writer is gone, at most for d.
func (s *sink) waitWriter(d time.Duration) {
	over := false
	timer := time.AfterFunc(d, func() {
		s.mu.Lock()
		over = true
		s.wake.Broadcast()
		s.mu.Unlock()
	})
	defer timer.Stop()
	for s.writing && !over {
		s.wake.Wait()
	}
}

// abandon ends a writer that still waits, and joins it.
func (s *sink) abandon() bool {
	_ = s.leg.tr.SetWriteDeadline(time.Unix(1, 0))
	for s.writing {
		s.wake.Wait()
	}
	return false
}

// giveUp has finish and finishLeg wait no more for the peer.
func (s *sink) giveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = errGivenUp
	}
	_ = s.leg.tr.SetWriteDeadline(time.Unix(1, 0))
}

var errGivenUp = errors.New("given up")

// dropped counts messages that were queued and are not delivered.
func (s *sink) dropped(n int) {
	s.t.o.Metrics.Dropped(metrics.DroppedClosed).Add(float64(n))
}

// release counts what was not delivered and gives its memory back.
func (s *sink) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	s.dropped(s.queue.Messages())
	s.queue.Close()
	s.dropDeferred()
	s.settle()
}

// discard takes bytes that nobody reads any more, in memory that it has while they come.
type discard struct{ buf *[gatherSize]byte }

func (d *discard) Space() []byte {
	if d.buf == nil {
		d.buf = gatherers.Get().(*[gatherSize]byte)
	}
	return d.buf[:]
}

func (d *discard) Idle() {
	if d.buf != nil {
		gatherers.Put(d.buf)
		d.buf = nil
	}
}
