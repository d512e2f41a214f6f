package relay

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"weir/proxy/sock"
	"weir/proxy/wsframe"
)

// stream is one direction of a connection in memory: a kernel's buffer. It is
// made of locks and timers only, so that a bubble's clock moves when all wait.
type stream struct {
	mu      sync.Mutex
	changed sync.Cond
	room    int // bytes the buffer takes; 0: any number
	buf     []byte
	taken   uint64 // bytes read from it by a peer
	lazy    bool   // a writer is not woken before half of it is free
	eof     bool   // no more will come
	reset   bool   // nothing passes any more
	cut     bool   // is reset while the next write that does not fit is under way
}

func newStream(room int) *stream {
	s := &stream{room: room}
	s.changed.L = &s.mu
	return s
}

func (s *stream) change(f func()) {
	s.mu.Lock()
	f()
	s.changed.Broadcast()
	s.mu.Unlock()
}

func (s *stream) unread() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.buf)
}

// put takes what there is room for.
func (s *stream) put(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reset || s.eof {
		return 0, syscall.EPIPE
	}
	n := len(p)
	if s.room > 0 {
		n = min(n, max(s.room-len(s.buf), 0))
	}
	s.buf = append(s.buf, p[:n]...)
	s.changed.Broadcast()
	if s.cut && n < len(p) {
		s.reset = true
		return n, syscall.EPIPE
	}
	return n, nil
}

// peerRoom is what the peer's own kernel takes of the bytes that it has not read: they
// do not wait for room there. A close frame fits.
const peerRoom = 2 + wsframe.MaxControlPayload

// full reports whether a writer has to wait still.
func (s *stream) full() bool {
	return s.room > 0 && (len(s.buf) >= s.room || s.lazy && len(s.buf) > s.room/2)
}

// deadline is a moment at which waits on a stream end.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

// set is called with s.mu held.
func (d *deadline) set(s *stream, at time.Time) {
	if d.timer != nil {
		d.timer.Stop()
	}
	d.at = at
	if wait := time.Until(at); !at.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, func() { s.change(func() {}) })
	}
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// wire is a Transport in memory.
type wire struct {
	in, out *stream

	read, write deadline // under the lock of in and out
	closed      bool     // under the lock of in
	record      int      // not 0: what is accepted goes out in records, as with TLS
	steps       int      // of a TryRead; 0: 1
	accepted    int
	last        int // of the last of them
	cipher      []byte

	writes  atomic.Int64 // that were tried
	panicOn atomic.Value // string, a method that panics
	slow    atomic.Int64 // time that ending a reader's wait takes
	parked  bool         // a reader waits; under the lock of in
}

// hurt panics when the test has chosen this method.
func (w *wire) hurt(method string) {
	if w.panicOn.Load() == method {
		panic("made to")
	}
}

func (w *wire) ReadTo(b sock.Buffer) (int, error) {
	w.hurt("ReadTo")
	s := w.in
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case w.closed:
			return 0, net.ErrClosed
		case w.read.passed():
			return 0, os.ErrDeadlineExceeded
		case len(s.buf) > 0:
			n := copy(b.Space(), s.buf)
			s.buf = s.buf[n:]
			s.changed.Broadcast()
			return n, nil
		case s.reset:
			return 0, syscall.ECONNRESET
		case s.eof:
			return 0, io.EOF
		}
		b.Space() // a read is tried before it waits
		b.Idle()
		w.parked = true
		s.changed.Wait()
		w.parked = false
	}
}

func (w *wire) TryWrite(p []byte) (total int, err error) {
	w.hurt("TryWrite")
	w.writes.Add(1)
	if w.record == 0 {
		return w.out.put(p)
	}
	for {
		n, err := w.out.put(w.cipher)
		w.cipher = w.cipher[n:]
		left := w.accepted
		switch n := len(w.cipher); {
		case n == 0:
			left = 0
		case n <= w.last:
			left = min(left, w.last)
		}
		sent := min(w.accepted-left, len(p))
		total += sent
		p = p[sent:]
		w.accepted -= sent
		if err != nil || len(w.cipher) > 0 || len(p) == 0 {
			return total, err
		}
		w.accepted = min(len(p), 2*w.record)
		w.last = (w.accepted-1)%w.record + 1
		w.cipher = append([]byte(nil), p[:w.accepted]...)
	}
}

func (w *wire) tried() int64 { return w.writes.Load() }

func (w *wire) Pending() int { return w.accepted }

func (w *wire) Acked() (n uint64, unsent bool) {
	w.hurt("Acked")
	w.out.change(func() { n, unsent = w.out.taken, len(w.out.buf) > peerRoom })
	return n, unsent
}

func (w *wire) Unread() int { return w.in.unread() }

func (w *wire) Drain(more func() bool) error {
	w.hurt("Drain")
	s := w.out
	for {
		s.mu.Lock()
		for !s.reset && !s.eof && !w.write.passed() && s.full() {
			s.changed.Wait()
		}
		late := w.write.passed()
		s.mu.Unlock()
		if late {
			return os.ErrDeadlineExceeded
		}
		if more() {
			return nil
		}
	}
}

func (w *wire) SetReadDeadline(t time.Time) error {
	w.hurt("SetReadDeadline")
	if t.Before(time.Now()) {
		time.Sleep(time.Duration(w.slow.Load()))
	}
	w.in.change(func() { w.read.set(w.in, t) })
	return nil
}

func (w *wire) SetWriteDeadline(t time.Time) error {
	w.hurt("SetWriteDeadline")
	w.out.change(func() { w.write.set(w.out, t) })
	return nil
}

func (w *wire) CloseWrite() error {
	w.hurt("CloseWrite")
	w.out.change(func() { w.out.eof = true })
	return nil
}

func (w *wire) Close() error {
	w.hurt("Close")
	w.in.change(func() { w.closed, w.in.reset = true, true })
	return w.CloseWrite()
}

func (w *wire) Abort() error {
	w.hurt("Abort")
	w.out.change(func() { w.out.reset, w.out.buf = true, nil })
	w.in.change(func() { w.closed, w.in.reset = true, true })
	return nil
}
