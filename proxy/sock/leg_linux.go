package sock

import (
	"errors"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"weir/proxy/poll"
)

// Leg is a connection on one of poll's loops, for the life of a tunnel: its
// reader is called when there is something to read, and while nothing happens
// it costs no goroutine and no buffer.
//
// TryWrite, Pending and Drain must be serialised by the caller; so must TryRead
// and ReadTo.
type Leg struct {
	src    *poll.Source
	tls    *secure // nil on plain TCP
	reader atomic.Pointer[func(leave func()) poll.Turn]

	mu sync.Mutex // guards fd against being closed, and by that another's, meanwhile
	fd int        // -1: closed

	closed  atomic.Bool
	in, out gate
}

// Leg takes the connection from Go's poller, whose wake-ups are not wanted any
// more, and puts it on a loop, the one of near when that is not nil. c must not
// be used afterwards, except for its addresses.
func (c *Conn) Leg(p *poll.Poller, near *Leg) (*Leg, error) {
	fd, err := c.takeFD()
	if err != nil {
		return nil, err
	}
	l := &Leg{fd: fd, tls: c.tls}
	if l.tls != nil {
		l.tls.unblock()
	}
	var with *poll.Source
	if near != nil {
		with = near.src
	} else if s, ok := c.tcp.(*Socket); ok {
		with = s.src
	}
	l.src = p.Add(fd, with, l)
	return l, nil
}

// takeFD takes the descriptor off the poller it is on. Go's gives only a
// duplicate away, and closes the original.
func (c *Conn) takeFD() (fd int, err error) {
	if s, ok := c.tcp.(*Socket); ok {
		return s.take()
	}
	ctlErr := c.raw.Control(func(old uintptr) {
		fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err = errors.Join(ctlErr, err); err != nil {
		return -1, err
	}
	_ = c.tcp.Close() // says nothing about the duplicate
	return fd, nil
}

// OnReadable has read called on a loop each time there may be something to
// read, from now until StopReading; the first call may come before this one
// returns. read must not wait, unless it calls Pause and leave first: from
// there on its goroutine is its own.
func (l *Leg) OnReadable(read func(leave func()) poll.Turn) error {
	l.reader.Store(&read)
	if err := l.src.Want(poll.Readable); err != nil || l.tls == nil {
		return err
	}
	l.src.Again() // for what TLS took from the socket before it was on a loop
	return nil
}

// Pause lets no more calls begin until Resume.
func (l *Leg) Pause() { _ = l.src.Unwant(poll.Readable) }

// Resume goes on calling, and calls in any case if there is more to do.
func (l *Leg) Resume(more bool) error {
	err := l.src.Want(poll.Readable)
	if more && err == nil {
		l.src.Again()
	}
	return err
}

// StopReading ends what OnReadable began. A call may be under way.
func (l *Leg) StopReading() {
	l.reader.Store(nil)
	l.Pause()
}

// Ready implements poll.Handler.
func (l *Leg) Ready(leave func(), e poll.Events) poll.Turn {
	if e&poll.Writable != 0 && l.out.waiting.Load() {
		_ = l.src.Unwant(poll.Writable)
		l.out.signal()
	}
	if e&poll.Readable == 0 {
		return poll.Short
	}
	if read := l.reader.Load(); read != nil {
		return (*read)(leave)
	}
	l.Pause()
	l.in.signal()
	return poll.Short
}

// TryRead reads once, of TLS a record at most; 0 and no error: nothing is there.
func (l *Leg) TryRead(p []byte) (n int, err error) {
	if l.tls != nil {
		n, err = l.tls.read(uintptr(l.fd), p)
	} else {
		n, err = readFD(uintptr(l.fd), p)
	}
	if err == errWouldBlock {
		return 0, nil
	}
	return n, err
}

// Steps tells how many records of TLS the last TryRead has taken, about; 1 at least.
func (l *Leg) Steps() int {
	if l.tls == nil {
		return 1
	}
	return l.tls.steps()
}

// Ahead reports whether bytes may be here that nobody will be called for: TLS
// takes more from the socket than one TryRead returns.
func (l *Leg) Ahead() bool { return l.tls != nil }

// ReadTo is TryRead for a goroutine that may wait.
func (l *Leg) ReadTo(b Buffer) (int, error) {
	for {
		if l.in.expired.Load() {
			return 0, l.why(os.ErrDeadlineExceeded)
		}
		if n, err := l.TryRead(b.Space()); n > 0 || err != nil {
			return n, err
		}
		b.Idle()
		if err := l.in.wait(func() error { return l.src.Want(poll.Readable) }); err != nil {
			l.Pause()
			return 0, l.why(err)
		}
	}
}

// why tells the deadline that Close sets from others.
func (l *Leg) why(err error) error {
	if l.closed.Load() {
		return net.ErrClosed
	}
	return err
}

// TryWrite is Conn.TryWrite.
func (l *Leg) TryWrite(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.fd < 0:
		return 0, net.ErrClosed
	case l.tls != nil:
		return l.tls.write(uintptr(l.fd), p)
	}
	return writeFD(uintptr(l.fd), p)
}

// Pending is Conn.Pending.
func (l *Leg) Pending() int {
	if l.tls == nil {
		return 0
	}
	return l.tls.accepted
}

// Acked is Conn.Acked.
func (l *Leg) Acked() (n uint64, unsent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return acked(l.fd)
}

// Unread is Conn.Unread.
func (l *Leg) Unread() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tls != nil {
		return math.MaxInt
	}
	return unread(l.fd)
}

// Drain is Conn.Drain.
func (l *Leg) Drain(more func() bool) error {
	for !more() {
		if err := l.out.wait(func() error { return l.src.Want(poll.Writable) }); err != nil {
			_ = l.src.Unwant(poll.Writable)
			return l.why(err)
		}
	}
	return nil
}

// SetReadDeadline ends a ReadTo that waits.
func (l *Leg) SetReadDeadline(t time.Time) error { return l.in.deadline(t) }

// SetWriteDeadline ends a Drain that waits.
func (l *Leg) SetWriteDeadline(t time.Time) error { return l.out.deadline(t) }

// CloseWrite is Conn.CloseWrite.
func (l *Leg) CloseWrite() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return net.ErrClosed
	}
	if l.tls != nil {
		_ = l.tls.conn.CloseWrite()
		_, _ = l.tls.flush(uintptr(l.fd))
	}
	return unix.Shutdown(l.fd, unix.SHUT_WR)
}

// Close closes the connection. Nothing may be reading from it any more.
func (l *Leg) Close() error { return l.close(false) }

// Abort is Close with a reset.
func (l *Leg) Abort() error { return l.close(true) }

func (l *Leg) close(reset bool) error {
	l.reader.Store(nil)
	l.closed.Store(true)
	l.src.Remove()
	_ = l.in.deadline(time.Unix(1, 0))
	_ = l.out.deadline(time.Unix(1, 0))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return net.ErrClosed
	}
	if reset {
		_ = unix.SetsockoptLinger(l.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	err := unix.Close(l.fd)
	l.fd = -1
	return err
}

// gate is where one goroutine waits for a loop's word, or for a deadline.
type gate struct {
	waiting atomic.Bool
	expired atomic.Bool

	mu    sync.Mutex
	word  chan struct{} // of capacity 1; made by the first who waits
	timer *time.Timer
}

func (g *gate) channel() chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.word == nil {
		g.word = make(chan struct{}, 1)
	}
	return g.word
}

// signal lets the waiter go on, or the next one.
func (g *gate) signal() {
	select {
	case g.channel() <- struct{}{}:
	default:
	}
}

// wait asks for the word and waits for it.
func (g *gate) wait(ask func() error) error {
	word := g.channel()
	g.waiting.Store(true)
	defer g.waiting.Store(false)
	if err := ask(); err != nil {
		return err
	}
	if !g.expired.Load() {
		<-word
	}
	if g.expired.Load() {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// deadline expires the gate at t, at once when that is past; zero: never.
func (g *gate) deadline(t time.Time) error {
	g.mu.Lock()
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
	left := time.Until(t)
	g.expired.Store(!t.IsZero() && left <= 0)
	if !t.IsZero() && left > 0 {
		g.timer = time.AfterFunc(left, func() {
			g.expired.Store(true)
			g.signal()
		})
	}
	g.mu.Unlock()
	if g.expired.Load() {
		g.signal()
	}
	return nil
}
