package sock

import (
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"weir/proxy/fd"
	"weir/proxy/poll"
)

// Socket is a TCP connection on one of poll's loops, with the face of a
// net.TCPConn. A read or a write that has to wait gives the loop back when it
// is a task's, and blocks its goroutine when it is not (BindRead, BindWrite).
//
// It is put on its loop at its first wait: who finds all that is needed at
// once costs no call for that.
type Socket struct {
	src    *poll.Source
	fd     descriptor
	raw    rawSocket
	in     side
	out    side
	hung   atomic.Bool // the other side has ended its sending, or is gone
	hangup hangup

	local, remote net.Addr // local: nil until it is asked for
}

// side is one direction of a Socket. One goroutine or task waits at a time.
type side struct {
	task    atomic.Pointer[poll.Task] // whose waits give the loop back; nil: nobody's
	maybe   atomic.Bool               // it may be ready: the loop said so, or nobody knows
	waiting atomic.Bool
	due     atomic.Int64 // deadline in nanoseconds since epoch; 0: none; expired: it has passed
	alarm   atomic.Pointer[poll.Alarm]
	gate    chan struct{} // of capacity 1, made by the first goroutine that waits
	drained bool          // the read under way said that there is no more
	told    bool          // the loop tells what comes
}

// expired is the due of a side whose deadline has passed: one value for both, so
// that one that passes while another is set leaves nothing behind.
const expired = -1

// epoch is what deadlines count from, on the monotonic clock: those under way
// must not be lost when the system's clock is set back.
var epoch = time.Now()

// newSocket takes over fd, a non-blocking socket that no poller knows of, on the
// loop of near, or on the least busy one.
func newSocket(p *poll.Poller, near *Socket, fd int, remote net.Addr) *Socket {
	s := &Socket{remote: remote}
	s.fd.fd = fd
	s.raw.s = s
	var with *poll.Source
	if near != nil {
		with = near.src
	}
	s.src = p.AddEdge(fd, with, s)
	s.in.maybe.Store(true)
	s.out.maybe.Store(true)
	return s
}

// BindRead says whose reads these are from now on: a task's, or any
// goroutine's. Nothing may be waiting.
func (s *Socket) BindRead(t *poll.Task) { s.in.task.Store(t) }

// BindWrite is BindRead for writes.
func (s *Socket) BindWrite(t *poll.Task) { s.out.task.Store(t) }

func (s *Socket) loop() int { return s.src.Loop() }

// Ready implements poll.Handler.
func (s *Socket) Ready(leave func(), e poll.Events) poll.Turn {
	if e&poll.HungUp != 0 {
		s.hung.Store(true)
		s.hangup.tell()
	}
	if e&poll.Writable != 0 {
		s.out.maybe.Store(true)
		s.out.wake(leave)
	}
	turn := poll.Short
	if e&poll.Readable != 0 {
		s.in.maybe.Store(true)
		turn = s.in.wake(leave)
	}
	return turn
}

// wake has who waits look again. It tells what the turn of a task was.
func (d *side) wake(leave func()) poll.Turn {
	if !d.waiting.Load() {
		return poll.Short
	}
	if t := d.task.Load(); t != nil {
		t.Resume(leave)
		return t.Turn()
	}
	select {
	case d.gate <- struct{}{}:
	default:
	}
	return poll.Short
}

// wakeAll has all who wait look again, from any goroutine.
func (s *Socket) wakeAll() {
	if s.in.waiting.Load() || s.out.waiting.Load() {
		s.src.Call(func(leave func()) {
			s.in.wake(leave)
			s.out.wake(leave)
		})
	}
}

// wait returns when d may be ready for e, or why it will not be.
func (s *Socket) wait(d *side, e poll.Events) error {
	if err := s.src.Want(e); err != nil {
		return err
	}
	d.told = true
	if d.gate == nil && d.task.Load() == nil {
		d.gate = make(chan struct{}, 1)
	}
	d.waiting.Store(true)
	defer d.waiting.Store(false)
	for {
		if err := s.usable(d); err != nil {
			return err
		}
		if s.worthwhile(d) {
			return nil
		}
		if t := d.task.Load(); t != nil {
			t.Wait()
		} else {
			<-d.gate
		}
	}
}

// usable is what a call returns without trying.
func (s *Socket) usable(d *side) error {
	switch {
	case s.fd.isClosed():
		return net.ErrClosed
	case d.due.Load() == expired:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// worthwhile tells whether a try may find more than that it has to wait. What
// the other side ended can be read to its end at any time.
func (s *Socket) worthwhile(d *side) bool {
	return d.maybe.Load() || d == &s.in && s.hung.Load()
}

// try calls f when d may be ready, again until it returns true.
func (s *Socket) try(d *side, e poll.Events, f func(fd uintptr) bool) error {
	for {
		if err := s.usable(d); err != nil {
			return err
		}
		if s.worthwhile(d) {
			if t := d.task.Load(); t != nil {
				t.Pause(s.src)
			}
			d.maybe.Store(false) // before f, so that an edge meanwhile is kept
			d.drained = false
			if !s.fd.acquire() {
				return net.ErrClosed
			}
			done := f(uintptr(s.fd.fd))
			s.fd.release()
			if done {
				if !d.drained || !d.told {
					d.maybe.Store(true)
				}
				return nil
			}
		}
		if err := s.wait(d, e); err != nil {
			return err
		}
	}
}

// Read implements net.Conn.
func (s *Socket) Read(p []byte) (n int, err error) {
	waited := s.try(&s.in, poll.Readable, func(d uintptr) bool {
		n, err = fd.Read(d, p)
		s.in.drained = n > 0 && n < len(p)
		return err != syscall.EAGAIN
	})
	return n, opError("read", err, waited)
}

// Write implements net.Conn.
func (s *Socket) Write(p []byte) (n int, err error) {
	waited := s.try(&s.out, poll.Writable, func(d uintptr) bool {
		var k int
		k, err = fd.Write(d, p[n:])
		n += k
		return err != syscall.EAGAIN
	})
	return n, opError("write", err, waited)
}

// steps tells the task that reads, if one does, that a read brought n things to
// compute, which may each take as long as a read. Many at once are one pause.
func (s *Socket) steps(n int) {
	if t := s.in.task.Load(); t != nil {
		for range min(n, mostSteps) {
			t.Pause(s.src)
		}
	}
}

const mostSteps = 16

func opError(call string, err, waited error) error {
	if waited != nil {
		return waited
	}
	if errno, ok := err.(syscall.Errno); ok {
		return os.NewSyscallError(call, errno)
	}
	return err
}

// Close implements net.Conn. Whoever waits is told.
func (s *Socket) Close() error {
	s.src.Forget()
	if !s.fd.close() {
		return net.ErrClosed
	}
	s.ended()
	return nil
}

// ended lets go of alarms and waiters.
func (s *Socket) ended() {
	for _, d := range [...]*side{&s.in, &s.out} {
		if a := d.alarm.Load(); a != nil {
			a.Set(time.Time{})
		}
	}
	s.hangup.forget()
	s.wakeAll()
}

// take gives the descriptor to the caller, and ends the Socket.
func (s *Socket) take() (fd int, err error) {
	s.src.Remove()
	if fd = s.fd.take(); fd < 0 {
		return -1, net.ErrClosed
	}
	s.ended()
	return fd, nil
}

// onHangup has gone called by the loop.
func (s *Socket) onHangup(gone func()) (stop func()) {
	s.hangup.ask(gone)
	if s.src.Want(poll.Readable) != nil || s.hung.Load() { // the loop tells no more
		s.src.Call(func(func()) { s.hangup.tell() })
	}
	return s.hangup.forget
}

// CloseWrite sends FIN.
func (s *Socket) CloseWrite() error {
	return s.control("shutdown", func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) })
}

// SetLinger is net.TCPConn's.
func (s *Socket) SetLinger(seconds int) error {
	l := unix.Linger{Linger: int32(max(seconds, 0))}
	if seconds >= 0 {
		l.Onoff = 1
	}
	return s.control("setsockopt", func(fd int) error { return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &l) })
}

// SetKeepAliveConfig is net.TCPConn's, with its defaults for what is zero.
func (s *Socket) SetKeepAliveConfig(c net.KeepAliveConfig) error {
	return s.control("setsockopt", func(fd int) error { return setKeepAlive(fd, c) })
}

func (s *Socket) control(call string, f func(fd int) error) error {
	if !s.fd.acquire() {
		return net.ErrClosed
	}
	defer s.fd.release()
	return os.NewSyscallError(call, f(s.fd.fd))
}

// LocalAddr implements net.Conn.
func (s *Socket) LocalAddr() net.Addr {
	if s.local == nil {
		_ = s.control("getsockname", func(fd int) error {
			sa, err := syscall.Getsockname(fd)
			s.local = tcpAddr(sa)
			return err
		})
	}
	return s.local
}

// RemoteAddr implements net.Conn.
func (s *Socket) RemoteAddr() net.Addr { return s.remote }

// SetDeadline implements net.Conn.
func (s *Socket) SetDeadline(t time.Time) error {
	s.limit(&s.in, t)
	s.limit(&s.out, t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (s *Socket) SetReadDeadline(t time.Time) error { s.limit(&s.in, t); return nil }

// SetWriteDeadline implements net.Conn.
func (s *Socket) SetWriteDeadline(t time.Time) error { s.limit(&s.out, t); return nil }

// limit sets the deadline of d.
func (s *Socket) limit(d *side, t time.Time) {
	a := d.alarm.Load()
	switch {
	case t.IsZero():
		d.due.Store(0)
		if a != nil {
			a.Set(time.Time{})
		}
		return
	case !t.After(time.Now()):
		d.due.Store(expired)
		s.wakeAll()
		return
	}
	d.due.Store(int64(t.Sub(epoch)))
	if a == nil {
		a = s.src.NewAlarm(func(leave func()) {
			if due := d.due.Load(); due > 0 && due <= int64(time.Since(epoch)) && d.due.CompareAndSwap(due, expired) {
				d.wake(leave)
			}
		})
		if !d.alarm.CompareAndSwap(nil, a) {
			a = d.alarm.Load()
		}
	}
	a.Set(t)
	if s.fd.isClosed() { // meanwhile: nobody else will take the alarm back
		a.Set(time.Time{})
	}
}

// SyscallConn implements syscall.Conn.
func (s *Socket) SyscallConn() (syscall.RawConn, error) { return &s.raw, nil }

// rawSocket is a Socket's syscall.RawConn. It knows when it was read empty
// (fd.Quiet).
type rawSocket struct{ s *Socket }

// Control implements syscall.RawConn.
func (r *rawSocket) Control(f func(fd uintptr)) error {
	if !r.s.fd.acquire() {
		return net.ErrClosed
	}
	defer r.s.fd.release()
	f(uintptr(r.s.fd.fd))
	return nil
}

// Read implements syscall.RawConn. Where nothing can be there it waits before
// it calls f first.
func (r *rawSocket) Read(f func(fd uintptr) bool) error { return r.s.try(&r.s.in, poll.Readable, f) }

// Write implements syscall.RawConn.
func (r *rawSocket) Write(f func(fd uintptr) bool) error {
	return r.s.try(&r.s.out, poll.Writable, f)
}

// Drained implements fd.Quiet.
func (r *rawSocket) Drained() { r.s.in.drained = true }

// Dry implements fd.Quiet.
func (r *rawSocket) Dry() bool { return !r.s.worthwhile(&r.s.in) }
