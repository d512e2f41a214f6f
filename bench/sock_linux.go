package main

import (
	"errors"
	"io"
	"unsafe"

	"golang.org/x/sys/unix"
)

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
