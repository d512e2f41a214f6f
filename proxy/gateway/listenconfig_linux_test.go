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
