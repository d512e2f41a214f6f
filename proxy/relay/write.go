package relay

import (
	"errors"
	"fmt"
	"os"
	"time"

	"weir/hostabi"
	"weir/proxy/metrics"
)

// write sees to it that a writer goroutine runs while anything waits.
func (s *sink) write() {
	if s.writing || s.err != nil || (s.queue.Empty() && s.lent == nil) {
		return
	}
	s.writing = true
	s.moved = time.Now()
	go s.t.guard(s.drain)
}

// drain is the writer goroutine: it ends when nothing waits, when the leg is
// broken, or when finish sets a write deadline.
func (s *sink) drain() {
	err := errPanicked
	defer func() { s.drained(err) }()
	err = s.leg.tr.Drain(s.more)
}

var errPanicked = errors.New("the writer panicked")

// drained notes how the writer ended, a panic included: nobody may wait for a
// writer that is gone.
func (s *sink) drained(err error) {
	s.mu.Lock()
	if err != nil && s.err == nil {
		s.err = err
		s.writing = false
		s.wake.Broadcast()
	}
	err = s.err
	s.mu.Unlock()
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		s.t.end(*s.t.lost(s.dir^1, err))
	}
}

// more writes what the kernel takes. True: nothing waits any more or the leg is
// broken, and the writer is gone.
func (s *sink) more() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		next, lent := s.next()
		if next == nil {
			s.writing = false
			s.settle(&s.t.pumps[s.dir])
			s.wake.Broadcast()
			return true
		}
		n, err := s.leg.tr.TryWrite(next)
		if err != nil {
			s.err = err
			s.writing = false
			s.wake.Broadcast()
			return true
		}
		if n > 0 {
			s.moved = time.Now()
		}
		s.took(n, lent)
		if n < len(next) {
			s.settle(&s.t.pumps[s.dir])
			return false
		}
	}
}

// next returns what is to be written now: what is lent comes after the queue,
// unless it has begun.
func (s *sink) next() (wire []byte, lent bool) {
	if s.lent != nil && (s.begun || s.queue.Empty()) {
		return s.lent, true
	}
	return s.queue.Next(), false
}

// took removes n bytes that the kernel took.
func (s *sink) took(n int, lent bool) {
	if !lent {
		s.queue.Wrote(n, s.leg.tr.Pending())
		return
	}
	s.lent = s.lent[n:]
	s.begun = s.begun || n > 0 || s.leg.tr.Pending() > 0
	if len(s.lent) == 0 {
		s.lent, s.begun = nil, false
		s.wake.Broadcast()
	}
}

// lend hands wire to the writer without copying it and waits until it is
// written, or the tunnel ends. Backpressure is this wait: its caller is the
// pump that would read more. begun says that a part of its message went out
// before; it then comes before everything that is queued.
func (s *sink) lend(wire []byte, begun bool) *Cause {
	for s.lent != nil && !s.gone() {
		s.wake.Wait()
	}
	if s.gone() {
		return nil
	}
	// What begun continues stands in the queue while its first part waits.
	s.lent, s.begun = wire, begun && s.queue.Empty()
	s.write()
	s.armGrace()
	for s.lent != nil && !s.gone() {
		s.wake.Wait()
	}
	s.grace.Stop()
	if s.lent != nil {
		// The tunnel ends and the caller takes its memory back: what is left
		// is finish's, in a copy.
		s.lent = append([]byte(nil), s.lent...)
	}
	return nil
}

func (s *sink) gone() bool { return s.stopped || s.err != nil }

// armGrace ends the tunnel when nothing moves for slow_consumer_grace.
func (s *sink) armGrace() {
	wait := s.limits.SlowConsumerGrace
	if s.grace == nil {
		s.grace = time.AfterFunc(wait, s.graceOver)
		return
	}
	s.grace.Reset(wait)
}

func (s *sink) graceOver() {
	s.mu.Lock()
	stuck := s.lent != nil && !s.gone()
	left := s.limits.SlowConsumerGrace - time.Since(s.moved)
	if stuck && left > 0 {
		s.grace.Reset(left)
		stuck = false
	}
	queued := s.queue.Bytes()
	s.mu.Unlock()
	if stuck {
		c := s.t.slowConsumer(s.dir, queued)
		s.t.end(*c)
	}
}

// fail is the cause when a write to this leg fails.
func (s *sink) fail(err error) *Cause {
	s.err = err
	s.wake.Broadcast()
	return s.t.lost(s.dir^1, err)
}

// stop wakes whoever waits here: the tunnel is ending.
func (s *sink) stop() {
	s.mu.Lock()
	s.stopped = true
	s.wake.Broadcast()
	s.mu.Unlock()
}

// slowConsumer is the cause when the peer that messages of direction d go to
// takes nothing: what waits toward it is dropped, the other leg is finished in
// order.
func (t *Tunnel) slowConsumer(d hostabi.Direction, queued int64) *Cause {
	l := &t.o.Route.Load().Limits
	c := t.faultCause(metrics.ByWeir, d, hostabi.SlowConsumer, fmt.Sprintf(
		"nothing read for %v, %d bytes wait, max_buffered_bytes is %d", l.SlowConsumerGrace, queued, l.MaxBufferedBytes))
	c.skip[d^1] = true
	return c
}
