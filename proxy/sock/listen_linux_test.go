package sock

import (
	"net"
	"testing"
	"time"
)

// Who connected before the end is accepted still: the kernel resets the connections that
// a listener leaves behind.
func TestAListenerEndsBehindWhoHasConnected(t *testing.T) {
	p := newLoops(t, 1)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const late = 5
	addr := tcp.Addr().String()
	busy, goOn, accepted := make(chan struct{}), make(chan struct{}), make(chan *Socket, 1+late)
	first := true
	l, err := Listen(p, tcp.(*net.TCPListener), func(s *Socket, _ func()) {
		if first {
			first = false
			close(busy)
			<-goOn
		}
		accepted <- s
	}, func(err error) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1 + late {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i == 0 {
			<-busy
		}
	}
	if err := l.Close(); err != nil { // while the loop is busy
		t.Error(err)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("somebody could connect behind that")
	}
	close(goOn)
	for range 1 + late {
		var s *Socket
		select {
		case s = <-accepted:
		case <-time.After(5 * time.Second):
			t.Fatal("not everyone was accepted")
		}
		if _, err := s.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		_ = s.Close()
	}
}
