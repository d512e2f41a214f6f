package relay

import (
	"io"
	"net"
	"sync"
	"syscall"

	"weir/proxy/poll"
)

// loopWire is a wire whose reader is called by a loop of its own.
type loopWire struct {
	*wire

	mu      sync.Mutex
	read    func(leave func()) poll.Turn
	paused  bool
	more    bool  // it is called in any case
	unarmed error // why Resume fails; nil: it does not
	loops   sync.WaitGroup

	came  turn   // in the turn under way; guarded by in.mu
	turns []turn // that did not leave the loop; of the loop
	left  int    // how many did
}

// turn is one call of the reader: what it read and what it said.
type turn struct {
	bytes, reads int
	writes       int64 // to the same peer
	said         poll.Turn
}

func newLoopWire(w *wire) *loopWire { return &loopWire{wire: w, paused: true} }

func (w *loopWire) OnReadable(read func(leave func()) poll.Turn) error {
	w.hurt("OnReadable")
	w.set(func() { w.read, w.paused = read, false })
	w.loops.Go(w.loop)
	return nil
}

func (w *loopWire) StopReading() {
	w.set(func() { w.read = nil })
	w.hurt("StopReading")
}

func (w *loopWire) Pause() {
	w.hurt("Pause")
	w.set(func() { w.paused = true })
}

func (w *loopWire) Resume(more bool) error {
	w.hurt("Resume")
	w.set(func() { w.paused, w.more = w.unarmed != nil, more })
	return w.unarmed
}

func (w *loopWire) Steps() int { return max(w.steps, 1) }

func (w *loopWire) Ahead() bool { return w.record > 0 }

// set changes what the loop looks at, and wakes it.
func (w *loopWire) set(f func()) {
	w.mu.Lock()
	f()
	w.mu.Unlock()
	w.in.change(func() {})
}

// loop calls the reader while there is something to read. A reader that leaves
// keeps this goroutine, and the loop goes on in another.
func (w *loopWire) loop() {
	for {
		read, ok := w.wait()
		if !ok {
			return
		}
		left := false
		again := true
		for again && !left {
			w.tookIn()
			before := w.tried()
			said := read(func() {
				left = true
				w.left++
				w.loops.Go(w.loop)
			})
			if again = said == poll.Again; !left {
				took := w.tookIn()
				took.said, took.writes = said, w.tried()-before
				w.turns = append(w.turns, took)
			}
		}
		if left {
			return
		}
	}
}

// tookIn returns what was read since it was asked last.
func (w *loopWire) tookIn() turn {
	w.in.mu.Lock()
	defer w.in.mu.Unlock()
	took := w.came
	w.came = turn{}
	return took
}

// wait returns the reader when it is to be called; false when there is none any
// more.
func (w *loopWire) wait() (func(leave func()) poll.Turn, bool) {
	s := w.in
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		w.mu.Lock()
		read, paused, more := w.read, w.paused, w.more
		w.more = more && paused
		w.mu.Unlock()
		if read == nil {
			return nil, false
		}
		if !paused && (more || len(s.buf) > 0 || s.eof || s.reset || w.closed) {
			return read, true
		}
		s.changed.Wait()
	}
}

func (w *loopWire) TryRead(p []byte) (int, error) {
	w.hurt("ReadTo")
	s := w.in
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case w.closed:
		return 0, net.ErrClosed
	case len(s.buf) > 0:
		if w.record > 0 {
			p = p[:min(len(p), w.record)]
		}
		n := copy(p, s.buf)
		s.buf = s.buf[n:]
		w.came.bytes += n
		w.came.reads += w.Steps()
		s.changed.Broadcast()
		return n, nil
	case s.reset:
		return 0, syscall.ECONNRESET
	case s.eof:
		return 0, io.EOF
	}
	return 0, nil
}
