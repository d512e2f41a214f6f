package gateway

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"weir/proxy/nettest"
)

func TestAcceptedConnectionsHaveTheListenersOptions(t *testing.T) {
	l, err := listenOn("127.0.0.1:0", listenConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nettest.Dial(t, l.Addr().String())
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		for _, o := range []struct{ level, name, want int }{
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
			{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent},
		} {
			if got, err := unix.GetsockoptInt(int(fd), o.level, o.name); got != o.want || err != nil {
				t.Errorf("option %d of level %d is %d (%v), want %d", o.name, o.level, got, err, o.want)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnOptionThatTheKernelRefusesIsNamed(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) // no TCP
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = unix.Close(pair[0]), unix.Close(pair[1]) }()
	err = listenConfig().Control("tcp", "", control(pair[0]))
	if err == nil || err.Error() != "setsockopt TCP_KEEPIDLE: operation not supported" {
		t.Errorf("%v", err)
	}
}

// control is a descriptor as a syscall.RawConn that can Control.
type control uintptr

func (c control) Control(f func(fd uintptr)) error { f(uintptr(c)); return nil }
func (control) Read(func(uintptr) bool) error      { return nil }
func (control) Write(func(uintptr) bool) error     { return nil }
