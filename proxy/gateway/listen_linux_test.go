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
