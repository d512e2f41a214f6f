package relay

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"weir/hostabi"
	"weir/proxy/flow"
)

// write sees to it that a writer goroutine runs while anything waits. finish
// joins it.
func (s *sink) write() {
	if s.writing || s.over || s.severed || s.err != nil || s.queue.Empty() {
		return
	}
	s.writing = true
	s.moved = time.Now()
	s.t.writers.Go(func() { s.t.guard(s.drain) })
}

// drain is the writer goroutine: it ends when nothing waits, when the leg is
// broken, or when abandon sets a write deadline.
func (s *sink) drain() {
	err := errPanicked
	defer func() { s.drained(err) }()
	err = s.leg.tr.Drain(s.more)
}

var errPanicked = errors.New("panicked")

// drained notes how the writer ended when it did not end itself, a panic
// included: nobody may wait for a writer that is gone.
func (s *sink) drained(err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = false
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.err = err
		s.wake.Broadcast()
		return
	}
	s.fail(err)
}

// gatherSize is how many bytes of small entries are written together.
const gatherSize = 16 << 10

var gatherers = sync.Pool{New: func() any { return new([gatherSize]byte) }}

// more writes what the kernel takes. True: nothing waits any more or the leg is
// broken, and the writer is gone.
func (s *sink) more() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	scratch := gatherers.Get().(*[gatherSize]byte)
	defer gatherers.Put(scratch)
	for {
		next := s.queue.Next(scratch[:])
		if next == nil || s.severed {
			s.writing = false
			s.settle()
			s.wake.Broadcast()
			return true
		}
		n, err := s.leg.tr.TryWrite(next)
		s.queue.Wrote(n, s.leg.tr.Pending())
		if err != nil {
			s.writing = false
			s.settle()
			s.fail(err)
			return true
		}
		if n > 0 {
			s.moved = time.Now()
		}
		if s.stalled > 0 {
			s.wake.Broadcast()
		}
		if n < len(next) {
			s.settle()
			return false
		}
	}
}

// lend hands m to the queue without copying it and waits until it is written,
// or the tunnel ends. Backpressure is this wait: p, whose message it is, reads
// nothing meanwhile.
func (s *sink) lend(p *pump, m flow.Message) {
	p.leaveLoop()
	loan := s.queue.Lend(m)
	s.write()
	s.settle()
	s.stall(p, loan.Returned)
	// The tunnel ends, and p takes its memory back.
	s.queue.Recall(loan)
}

// awaitRoom waits until the queue can hold a message of n bytes that comes in
// parts, or the tunnel ends. Then no part has to wait with half of it on the wire,
// where nothing may follow but the rest: a peer that takes nothing can still be sent
// a close frame behind it. What is larger than the queue does not wait.
func (s *sink) awaitRoom(p *pump, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n += n / 64 // what the queue notes of parts of 1 KiB and more
	fits := func() bool { return s.queue.Empty() || s.queue.Fits(n) }
	if n > s.set.Limits.MaxBufferedBytes || s.idle() || s.closing || fits() {
		return
	}
	p.leaveLoop()
	s.settle()
	s.stall(p, fits)
	s.settle()
}

// stall keeps p waiting until over, or the tunnel ends. The queue has moved before
// each time it is asked.
func (s *sink) stall(p *pump, over func() bool) {
	p.in.paused.Store(true)
	if s.stalled++; s.stalled == 1 {
		s.look()
		s.full = time.Now()
		s.armGrace(s.patience())
	}
	for !over() && !s.gone() {
		s.wake.Wait()
	}
	if s.stalled--; s.stalled == 0 {
		s.grace.Stop()
	}
	now := s.t.since(time.Now())
	p.in.lastRead.Store(now)
	p.in.resumed.Store(now)
	p.in.paused.Store(false)
}

// patience is slow_consumer_grace, of the moment: a reload changes it for a pump that
// waits, too, which takes over no other settings meanwhile.
func (s *sink) patience() time.Duration { return s.t.o.Route.Load().Limits.SlowConsumerGrace }

// armGrace ends the tunnel when nothing moves for slow_consumer_grace. It looks four
// times in that, to see when something did, and after watchMost at most.
func (s *sink) armGrace(wait time.Duration) {
	wait = min(wait, s.patience()/4, watchMost)
	if s.grace == nil {
		s.grace = time.AfterFunc(wait, func() { s.t.guard(s.graceOver) })
		return
	}
	s.grace.Reset(wait)
}

func (s *sink) graceOver() {
	if queued, stuck := s.stuck(s.excused()); stuck {
		s.t.end(s.t.slowConsumer(s.dir, queued))
	}
}

// excused returns until when the peer had reason not to read: one that does one after
// the other waits until Weir reads from it, which waits for the other peer, as long as
// that one takes something. Between two such waits it is read for a moment.
func (s *sink) excused() time.Time {
	if !s.leg.paused.Load() {
		return s.t.start.Add(time.Duration(s.leg.resumed.Load()))
	}
	other := &s.t.legs[s.dir].sink
	other.mu.Lock()
	defer other.mu.Unlock()
	other.look()
	return other.moved
}

// stuck reports whether it is over, and how much waits; else it is looked at again.
func (s *sink) stuck(excused time.Time) (queued int64, stuck bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stalled == 0 || s.gone() {
		return 0, false
	}
	s.look()
	left := s.patience() - min(time.Since(s.moved), time.Since(s.full), time.Since(excused))
	if left > 0 {
		s.armGrace(left)
	}
	return s.queue.Bytes(), left <= 0
}

// look notes whether the peer has taken anything since it was looked at last. The
// kernel, which may hold megabytes, says so only when half of them are gone. What went
// without waiting for the peer does not count: it says nothing of who reads it. Where
// something has begun to wait meanwhile, it has taken all before that.
func (s *sink) look() {
	n, unsent := s.leg.tr.Acked()
	if n != s.acked && (s.writing || s.unsent || unsent) {
		s.moved = time.Now()
	}
	s.acked, s.unsent = n, unsent
}

// delivering reports whether something is left for the peer in the kernel alone, and
// whether the peer goes on taking it; since is when it was to begin.
func (s *sink) delivering(since time.Time) (left, moves bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look()
	if s.moved.After(since) {
		since = s.moved
	}
	return s.unsent, s.unsent && s.err == nil && time.Since(since) < s.patience()
}

// answerTime returns how long an answer has still to come that the peer gives, or waits
// for: closeTimeout from when it takes the last of what waits for it. One that goes out
// here has that from the last message, too, which its peer may have sent before it was
// told of the close; but not where Weir itself has somebody leave.
func (s *sink) answerTime() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look()
	waits, since := s.writing || s.unsent, time.Since(s.moved)
	switch {
	case s.gone() || waits && since >= s.patience():
		return 0
	case waits:
		return closeTimeout
	case !s.closing && !s.t.leaving:
		since = min(since, time.Since(s.t.start)-time.Duration(s.t.lastMessage.Load()))
	}
	return closeTimeout - since
}

// fail notes that nothing more can be written to this leg. Its reader, which
// may have messages of the peer still to deliver, gets a moment to find out.
func (s *sink) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.wake.Broadcast()
	s.t.endSoon(s.dir^1, s.t.lost(s.dir^1, err))
}

// stop wakes whoever waits here: the tunnel is ending.
func (s *sink) stop() {
	s.mu.Lock()
	s.stopped = true
	s.wake.Broadcast()
	s.mu.Unlock()
}

// lastMoved returns when bytes that waited were last taken, in nanoseconds since the
// tunnel's start: a peer that reads slowly is alive, and a ping waits behind them.
func (s *sink) lastMoved() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look()
	if s.moved.IsZero() {
		return 0
	}
	return s.t.since(s.moved)
}

// slowConsumer is the cause when the peer that messages of direction d go to
// takes nothing, unless there is an earlier one: what waits toward it is dropped, the
// other leg is finished in order.
func (t *Tunnel) slowConsumer(d hostabi.Direction, queued int64) Cause {
	first := t.known()
	if first == nil {
		l := &t.o.Route.Load().Limits
		first = t.messageFault(d, hostabi.SlowConsumer, fmt.Sprintf(
			"nothing read for %v, %d bytes wait, max_buffered_bytes is %d", l.SlowConsumerGrace, queued, l.MaxBufferedBytes))
	}
	c := *first
	c.skip[d^1] = true
	return c
}
