package sock

import (
	"syscall"
	"testing"

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
