package sock

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"weir/proxy/nettest"

	"golang.org/x/sys/unix"
)

// Who dials a port of its own host where nobody listens may be given that very port,
// and have a connection with itself. It would take its question for the answer, and
// the port from the server that comes back.
func TestNoConnectionIsWithItself(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := Dialer{Loops: newLoops(t, 1), Timeout: patience, Waits: func(func()) {}}
	s := newSocket(d.Loops, nil, fd, nil)
	defer s.Close()
	// The port is chosen here, so that it need not be by chance.
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	itself, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.join(s, itself); err != syscall.ECONNREFUSED {
		t.Fatalf("a connection of %v with itself: %v", s.LocalAddr(), err)
	}
	_ = s.Close()
	server, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(server)
	if err := unix.Bind(server, itself); err != nil {
		t.Errorf("its port is not free: %v", err)
	}
}

func TestDialSaysWhatFailed(t *testing.T) {
	addr := nettest.Refusing(t)
	d := Dialer{Loops: newLoops(t, 1), Timeout: patience, Waits: func(func()) {}}
	_, err := d.Dial(addr)
	if want := "dial tcp " + addr + ": connect: connection refused"; err == nil || err.Error() != want || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := d.Dial("localhost"); err == nil || !strings.Contains(err.Error(), "missing port") {
		t.Errorf("an address without a port: %v", err)
	}
}

func TestDialLooksNamesUp(t *testing.T) {
	l := nettest.Listen(t)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	s, err := Dialer{Loops: newLoops(t, 1), Timeout: patience, Waits: func(func()) {}}.Dial("localhost:" + port)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	peer := nettest.Accept(t, l)
	_, _ = peer.Write([]byte("x"))
	if n, err := s.Read(make([]byte, 2)); n != 1 || err != nil {
		t.Errorf("Read = %d, %v", n, err)
	}
	if s.LocalAddr().String() != peer.RemoteAddr().String() || s.RemoteAddr().String() != peer.LocalAddr().String() {
		t.Errorf("%s to %s here, %s to %s there", s.LocalAddr(), s.RemoteAddr(), peer.RemoteAddr(), peer.LocalAddr())
	}
}
