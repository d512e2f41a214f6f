package sock

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"weir/proxy/poll"
)

// Dial connects to address, host:port.
func (d Dialer) Dial(address string) (*Socket, error) {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || ap.Addr().Zone() != "" {
		return d.dialName(address)
	}
	s, err := d.connect(ap)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(ap), Err: err}
	}
	return s, nil
}

func (d Dialer) near() *Socket {
	if d.Near == nil {
		return nil
	}
	s, _ := d.Near.tcp.(*Socket)
	return s
}

// dialName connects beside the loops, as looking a name up is.
func (d Dialer) dialName(address string) (*Socket, error) {
	if d.Task != nil {
		d.Task.Leave()
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.Timeout)
	defer cancel()
	d.Waits(cancel)
	tcp, err := DialName(ctx, address)
	if err != nil {
		return nil, err
	}
	fd, err := Wrap(tcp).takeFD()
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	return newSocket(d.Loops, d.near(), fd, tcp.RemoteAddr()), nil
}

func (d Dialer) connect(ap netip.AddrPort) (*Socket, error) {
	family, sa := sockaddr(ap)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	s := newSocket(d.Loops, d.near(), fd, net.TCPAddrFromAddrPort(ap))
	if err := d.join(s, sa); err != nil {
		_ = s.Close()
		if errno, ok := err.(unix.Errno); ok {
			err = os.NewSyscallError("connect", errno)
		}
		return nil, err
	}
	return s, nil
}

// join connects s to sa.
func (d Dialer) join(s *Socket, sa unix.Sockaddr) (err error) {
	// The second call tells how the first one went: over loopback it is done when
	// that returns.
	again := func(fd uintptr) bool {
		err = unix.Connect(int(fd), sa)
		return err != unix.EALREADY && err != unix.EINPROGRESS
	}
	if err = unix.Connect(s.fd.fd, sa); err == unix.EINPROGRESS && !again(uintptr(s.fd.fd)) {
		s.BindWrite(d.Task)
		s.limit(&s.out, time.Now().Add(d.Timeout))
		d.Waits(func() { _ = s.Close() })
		s.out.maybe.Store(false)
		if waited := s.try(&s.out, poll.Writable, again); waited != nil {
			err = waited
		}
		s.limit(&s.out, time.Time{})
	}
	if err != nil && err != unix.EISCONN {
		return err
	}
	if s.withItself() {
		_ = s.SetLinger(0) // a server that comes back is not to find its port taken for a minute
		return unix.ECONNREFUSED
	}
	return nil
}

// withItself tells whether s is both ends of its connection: where nobody listens on
// a port, the kernel may choose that one for who dials it from the same address
// (RFC 9293 §3.5, simultaneous open).
func (s *Socket) withItself() (same bool) {
	_ = s.control("getsockname", func(fd int) error {
		local, err := syscall.Getsockname(fd)
		if err != nil {
			return err
		}
		remote, err := syscall.Getpeername(fd)
		same = err == nil && tcpAddr(local).String() == tcpAddr(remote).String()
		return err
	})
	return same
}

func sockaddr(ap netip.AddrPort) (family int, sa unix.Sockaddr) {
	if a := ap.Addr().Unmap(); a.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: a.As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
}

// setKeepAlive has the kernel ask a silent peer whether it is there (tcp(7)).
func setKeepAlive(fd int, c net.KeepAliveConfig) error {
	if !c.Enable {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
	}
	seconds := func(d time.Duration) int {
		if d <= 0 {
			d = 15 * time.Second // as package net
		}
		return int((d + time.Second - 1) / time.Second)
	}
	count := c.Count
	if count <= 0 {
		count = 9
	}
	return errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds(c.Idle)),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds(c.Interval)),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, count),
	)
}
