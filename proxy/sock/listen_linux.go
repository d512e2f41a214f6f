package sock

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"weir/proxy/poll"
)

// Listener accepts connections on poll's loops.
type Listener struct {
	p      *poll.Poller
	accept func(s *Socket, leave func())
	failed func(error) (goOn bool)

	srcs  []*poll.Source
	retry *poll.Alarm

	mu      sync.Mutex // guards fd against being closed, and by that another's, meanwhile
	fd      int        // -1: closed
	backoff time.Duration
}

// Bounds of the pause after an accept that failed; it doubles.
const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

// Listen takes l over from Go's poller and calls accept, on a loop, with every
// connection, which is on the least busy loop; leave is as for
// poll.Handler.Ready. failed is told of errors and says whether to go on, after a
// pause that doubles up to a second.
func Listen(p *poll.Poller, l *net.TCPListener, accept func(s *Socket, leave func()), failed func(error) (goOn bool)) (*Listener, error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	ctlErr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(ctlErr, err); err != nil {
		return nil, err
	}
	_ = l.Close()
	a := &Listener{p: p, accept: accept, failed: failed, fd: fd, backoff: minBackoff}
	a.srcs = p.AddAll(fd, a)
	a.retry = a.srcs[0].NewAlarm(func(func()) { a.arm(poll.Readable) })
	a.arm(poll.Readable)
	return a, nil
}

// arm asks for e on every loop, again after a pause where the kernel has no room for that.
func (a *Listener) arm(e poll.Events) {
	for _, s := range a.srcs {
		if err := s.Arm(e); err != nil && a.failed(err) {
			a.retry.Set(time.Now().Add(a.pause()))
		}
	}
}

// maxBacklog is how many connections may wait to be accepted, on Linux.
const maxBacklog = 4096

// Close ends accepting, behind those who have connected already: the kernel would
// reset them.
func (a *Listener) Close() error {
	for _, s := range a.srcs {
		s.Remove()
	}
	a.retry.Set(time.Time{})
	for range maxBacklog {
		fd, sa, err := a.take()
		if err != nil {
			break
		}
		left := make(chan struct{})
		leave := sync.OnceFunc(func() { close(left) })
		go func() { // a TLS handshake takes as long as its client
			defer leave()
			a.accept(newSocket(a.p, nil, fd, tcpAddr(sa)), leave)
		}()
		<-left
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fd < 0 {
		return net.ErrClosed
	}
	fd := a.fd
	a.fd = -1
	return unix.Close(fd)
}

// Ready implements poll.Handler: it accepts one connection, so that several
// that come at once are shared with the other loops.
func (a *Listener) Ready(leave func(), _ poll.Events) poll.Turn {
	fd, sa, err := a.take()
	switch {
	case err == nil:
		a.accept(newSocket(a.p, nil, fd, tcpAddr(sa)), leave)
	case err == syscall.EAGAIN || err == net.ErrClosed: // another loop was first
	case a.failed(os.NewSyscallError("accept4", err)):
		a.arm(0)
		a.retry.Set(time.Now().Add(a.pause()))
	default:
		a.arm(0)
	}
	return poll.Short
}

// pause is how long to wait after a failure. Loops may fail at the same time.
func (a *Listener) pause() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.backoff
	a.backoff = min(2*d, maxBackoff)
	return d
}

// take accepts by package syscall, since package unix asks a socket for its
// protocol each time.
func (a *Listener) take() (fd int, sa syscall.Sockaddr, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fd < 0 {
		return -1, nil, net.ErrClosed
	}
	if fd, sa, err = syscall.Accept4(a.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC); err == nil {
		a.backoff = minBackoff
	}
	return fd, sa, err
}

// tcpAddr is sa as package net has it.
func tcpAddr(sa syscall.Sockaddr) net.Addr {
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)))
	case *syscall.SockaddrInet6:
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)))
	}
	return &net.TCPAddr{}
}
