package gateway

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListenersArePlainTCP(t *testing.T) {
	l, err := listenOn("127.0.0.1:0", listenConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		if p, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL); p != unix.IPPROTO_TCP || err != nil {
			t.Errorf("protocol %d (%v), want %d", p, err, unix.IPPROTO_TCP)
		}
	})
}

// 0.0.0.0 is every address of IPv4 and none of IPv6, which net.Listen adds: who wrote it
// may have a firewall for the one alone.
func TestFamiliesOfListeners(t *testing.T) {
	f := func(address string, want string) {
		t.Helper()
		l, err := listenOn(address, listenConfig())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if got := l.Addr().(*net.TCPAddr).IP.String(); got != want {
			t.Errorf("%s listens on %s, want %s", address, got, want)
		}
	}
	f("0.0.0.0:0", "0.0.0.0")
	f("[::ffff:0.0.0.0]:0", "0.0.0.0")
	f("127.0.0.1:0", "127.0.0.1")
	f(":0", "::")
	f("[::]:0", "::")
}
