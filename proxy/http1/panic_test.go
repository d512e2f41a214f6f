package http1

import (
	"net"
	"strings"
	"testing"

	"weir/proxy/nettest"
)

// badConn panics when it is read.
type badConn struct{ net.Conn }

func (badConn) Read([]byte) (int, error) { panic("made to") }

// A panic beside the handler, in the connection's own goroutine or in the one
// that watches for the client to leave, is told once and ends nothing else.
func TestPanicsBesideTheHandler(t *testing.T) {
	told := make(chan string, 10)
	entered := make(chan struct{})
	s := &Server{
		Panic: func(_ any, stack []byte) { told <- string(stack) },
		Handler: func(x *Exchange) {
			if string(x.Req.Target) != "/watch" {
				hello(x)
				return
			}
			gone := make(chan struct{})
			stop := x.Watch(func() {
				defer close(gone)
				panic("made to")
			})
			entered <- struct{}{}
			nettest.Within(t, gone, "the client to be gone")
			stop()
		},
	}
	addr := listen(t, s)
	other, c := dial(t, addr), dial(t, addr)
	other.send(get)
	other.expect(gotA)

	c.send("GET /watch HTTP/1.1\r\nHost: a\r\n\r\n")
	nettest.Within(t, entered, "the handler")
	_ = c.nc.Close()
	if stack := nettest.Within(t, told, "Panic"); !strings.Contains(stack, "TestPanicsBesideTheHandler") {
		t.Error(stack)
	}

	near, far := net.Pipe()
	defer far.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.ServeConn(badConn{near})
	}()
	nettest.Within(t, served, "the broken connection to be given up")
	if stack := nettest.Within(t, told, "Panic"); !strings.Contains(stack, "badConn") {
		t.Error(stack)
	}
	if _, err := far.Read(make([]byte, 1)); err == nil {
		t.Error("it is still open")
	}

	other.send(get)
	other.expect(gotA)
	s.Drain()
	if err := s.Wait(t.Context()); err != nil {
		t.Errorf("not all are gone: %v", err)
	}
}
