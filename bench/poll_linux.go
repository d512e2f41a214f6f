package main

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	bufferBytes = 256 << 10 // read at once; more than the largest frame
	tickEvery   = time.Millisecond
)

// handler is a socket of a loop. ready is called when it can be read or
// written; the error that it returns ends the socket and is given to end.
type handler interface {
	ready(events uint32) error
	end(err error)
}

// loop serves non-blocking sockets on one thread with epoll: no goroutine per
// socket, so that the generator costs little beside what it measures.
type loop struct {
	ep, event int
	buf       []byte
	wire      []byte    // what buf is opened from, over TLS
	conns     []handler // by descriptor; nil: not ours
	woken     func()    // called on the loop's thread after wake
	tick      func()    // called about every tickEvery; nil: never
	quit      atomic.Bool

	mu      sync.Mutex
	entered map[int]handler // guarded by mu: sockets from other threads
}

func newLoop() (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	event, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(ep)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	l := &loop{ep: ep, event: event, buf: make([]byte, bufferBytes), entered: map[int]handler{}}
	err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, event, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(event)})
	return l, err
}

// wake has woken called.
func (l *loop) wake() { _, _ = unix.Write(l.event, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

// run serves until stop, then closes every socket that is left.
func (l *loop) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	events := make([]unix.EpollEvent, 256)
	last := time.Now()
	for !l.quit.Load() {
		wait := -1
		if l.tick != nil {
			wait = int(tickEvery / time.Millisecond)
		}
		n, err := unix.EpollWait(l.ep, events, wait)
		if err != nil && err != unix.EINTR {
			panic(fmt.Sprint("epoll_wait: ", err)) // a descriptor of our own is bad: a bug here
		}
		for i := range max(n, 0) {
			fd := int(events[i].Fd)
			if fd == l.event {
				var b [8]byte
				_, _ = unix.Read(fd, b[:])
				l.admit()
				if l.woken != nil {
					l.woken()
				}
				continue
			}
			if fd < len(l.conns) && l.conns[fd] != nil {
				if err := l.conns[fd].ready(events[i].Events); err != nil {
					l.drop(fd, err)
				}
			}
		}
		if l.tick != nil && time.Since(last) >= tickEvery {
			last = time.Now()
			l.tick()
		}
	}
	l.admit()
	for fd, h := range l.conns {
		if h != nil {
			l.drop(fd, nil)
		}
	}
	unix.Close(l.event)
	unix.Close(l.ep)
}

// enter adds a socket from another thread.
func (l *loop) enter(fd int, h handler) {
	l.mu.Lock()
	l.entered[fd] = h
	l.mu.Unlock()
	l.wake()
}

func (l *loop) admit() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for fd, h := range l.entered {
		if err := l.add(fd, h); err != nil {
			unix.Close(fd)
			h.end(err)
		} else if err := h.ready(unix.EPOLLOUT); err != nil {
			l.drop(fd, err)
		}
	}
	clear(l.entered)
}

// stop ends run; the caller waits for it.
func (l *loop) stop() {
	l.quit.Store(true)
	l.wake()
}

func (l *loop) add(fd int, h handler) error {
	for fd >= len(l.conns) {
		l.conns = append(l.conns, make([]handler, max(64, fd))...)
	}
	if err := unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	l.conns[fd] = h
	return nil
}

// forget leaves a socket to another loop.
func (l *loop) forget(fd int) error {
	l.conns[fd] = nil
	return unix.EpollCtl(l.ep, unix.EPOLL_CTL_DEL, fd, nil)
}

// drop closes a socket.
func (l *loop) drop(fd int, err error) {
	h := l.conns[fd]
	l.conns[fd] = nil
	unix.Close(fd)
	h.end(err)
}

// sock is what every socket of a loop has.
type sock struct {
	l     *loop
	fd    int
	tls   *records // nil: none
	armed bool     // waiting to be writable
	carry []byte   // the beginning of a frame or head whose end has not come
}

// fill reads once behind what is carried over. The result is the loop's buffer.
func (s *sock) fill() ([]byte, error) {
	n := copy(s.l.buf, s.carry)
	if s.tls != nil {
		if s.l.wire == nil {
			s.l.wire = make([]byte, len(s.l.buf))
		}
		return s.tls.fill(s.fd, s.l.buf, n, s.l.wire)
	}
	m, err := sysRead(s.fd, s.l.buf[n:])
	if err != nil {
		return nil, err
	}
	return s.l.buf[:n+m], nil
}

// keep carries over what was not used of a fill.
func (s *sock) keep(rest []byte) error {
	if len(rest) == len(s.l.buf) {
		return errors.New("a message does not fit the generator's buffer")
	}
	s.carry = append(s.carry[:0], rest...)
	return nil
}

// put writes once. What it could not write is for when the socket is writable.
func (s *sock) put(b []byte) (int, error) {
	if s.tls != nil {
		n, written, err := s.tls.put(s.fd, b)
		if err != nil {
			return 0, err
		}
		return n, s.arm(n < len(b) || !written)
	}
	n, err := sysWrite(s.fd, b)
	if err == unix.EAGAIN {
		n, err = 0, nil
	}
	if err != nil {
		return 0, err
	}
	return n, s.arm(n < len(b))
}

// push writes what is already sealed.
func (s *sock) push() error {
	if s.tls == nil {
		return nil
	}
	_, err := s.put(nil)
	return err
}

func (s *sock) arm(on bool) error {
	if s.armed == on {
		return nil
	}
	s.armed = on
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s.fd)}
	if on {
		ev.Events |= unix.EPOLLOUT
	}
	return unix.EpollCtl(s.l.ep, unix.EPOLL_CTL_MOD, s.fd, &ev)
}

// sysRead and sysWrite leave out the scheduler: the sockets never block. sysRead
// returns 0 when nothing is there, io.EOF at the end.
func sysRead(fd int, b []byte) (int, error) {
	n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	switch {
	case e == unix.EAGAIN:
		return 0, nil
	case e != 0:
		return 0, e
	case n == 0:
		return 0, io.EOF
	}
	return int(n), nil
}

func sysWrite(fd int, b []byte) (int, error) {
	n, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}
