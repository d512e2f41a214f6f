package upstream

import (
	"io"
	"net"
	"testing"
	"time"

	"weir/proxy/sock"
)

// pair is a kept connection and its peer.
func pair(t *testing.T) (*conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ours, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ours.Close(); _ = theirs.Close() })
	return &conn{nc: sock.Wrap(ours.(*net.TCPConn))}, theirs
}

func TestAShelfKeepsSoManyConnections(t *testing.T) {
	s := shelf{idle: make([]*conn, maxIdle-1)}
	last, _ := pair(t)
	s.put(last, nil)
	defer s.expire.Stop()
	more, peer := pair(t)
	s.put(more, nil)
	if n := s.count(); n != maxIdle {
		t.Errorf("%d kept, want %d", n, maxIdle)
	}
	if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("what the shelf has no room for: %v, want it closed", err)
	}
	if c := s.take(last.idleSince, true); c != last { // at once, which this is not on a busy machine
		t.Error("the one used last is not taken first")
	}
}

// An exchange on a connection of another loop goes from one to the other each time
// it waits: that is for loops with little to do.
func TestConnectionsOfOtherLoops(t *testing.T) {
	now := time.Now()
	target := &target{shelves: make([]shelf, 2)}
	c, _ := pair(t)
	c.raw, _ = c.nc.SyscallConn()
	c.test = c.testFD
	c.idleSince = now
	target.shelves[1].idle = []*conn{c}
	if target.take(now.Add(spareAfter-1), true, nil) != nil {
		t.Error("what was used a moment ago is taken from another loop")
	}
	if target.take(now.Add(spareAfter), true, nil) != c {
		t.Error("what is not needed is not taken from another loop")
	}
}
