package sock

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"weir/proxy/nettest"
	"weir/proxy/poll"
)

// A paused reader is not called, though its peer is gone and a writer, who waits
// meanwhile, is told: who paused it may hold what the call would wait for.
func TestAPausedLegIsNotCalled(t *testing.T) {
	x, peer := nettest.Pair(t)
	l := onLoop(t, newLoops(t, 1), Wrap(x))
	calls := 0 // of the loop
	if err := l.OnReadable(func(func()) poll.Turn { calls++; return poll.Short }); err != nil {
		t.Fatal(err)
	}
	l.Pause()
	var leaving sync.WaitGroup
	defer leaving.Wait()
	reset := func() { _ = peer.SetLinger(0); _ = peer.Close() }
	p := make([]byte, 64<<20) // more than the kernel holds
	full := false
	err := l.Drain(func() bool {
		n, err := l.TryWrite(p)
		if p = p[n:]; err == nil && !full {
			full = true
			leaving.Go(reset)
		}
		return err != nil
	})
	if err != nil || !full {
		t.Fatalf("Drain: %v, full %v", err, full)
	}
	over := make(chan int)
	l.src.Call(func(func()) { over <- calls }) // behind the call of the writer
	if n := <-over; n != 0 {
		t.Errorf("a paused reader was called %d times", n)
	}
}

// held is a connection that sends what was written to it when it is told to.
type held struct {
	net.Conn
	hold bool
	b    []byte
}

func (h *held) Write(p []byte) (int, error) {
	if h.hold {
		h.b = append(h.b, p...)
		return len(p), nil
	}
	return h.Conn.Write(p)
}

// With TLS 1.2 an alert can be seen to come behind data, and is waited for: one that
// does not come whole takes nothing from what is here.
func TestAPieceOfAnAlertBehindDataIsNoError(t *testing.T) {
	own, _ := nettest.Certificate()
	x, y := nettest.Pair(t)
	wire := &held{Conn: x}
	client := tls.Client(wire, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}) //nolint:gosec // a test's own
	server := Server(y, &tls.Config{Certificates: own})
	shake(t, client, server)
	wire.hold = true
	_, _ = io.WriteString(client, "data")
	_ = client.CloseWrite()
	_ = x.SetWriteDeadline(time.Time{}) // which that leaves behind it
	last := len(wire.b) - 1
	if _, err := x.Write(wire.b[:last]); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 100)
	_ = server.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := server.Read(p); string(p[:n]) != "data" || err != nil {
		t.Errorf("%q, %v", p[:n], err)
	}
	_ = server.SetReadDeadline(time.Time{})
	_, _ = x.Write(wire.b[last:])
	if n, err := server.Read(p); n != 0 || err != io.EOF || server.Cut() {
		t.Errorf("%q, %v, cut %v", p[:n], err, server.Cut())
	}
}

// What TLS has taken from the socket before the connection came on its loop is
// told of, though the socket has nothing any more.
func TestALegIsCalledForWhatTLSHolds(t *testing.T) {
	own, _ := nettest.Certificate()
	x, y := nettest.Pair(t)
	wire := &held{Conn: x}
	client := tls.Client(wire, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a test's own
	server := Server(y, &tls.Config{Certificates: own})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := client.Handshake(); err != nil {
			t.Error(err)
		}
	})
	if err := server.Handshake(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	wire.hold = true
	for _, s := range []string{"answer", "message"} { // a record each
		_, _ = io.WriteString(client, s)
	}
	if _, err := x.Write(wire.b); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 100)
	if n, err := server.Read(p[:6]); string(p[:n]) != "answer" {
		t.Fatalf("%q, %v", p[:n], err)
	}
	l := onLoop(t, newLoops(t, 1), server)
	got := make(chan string, 10)
	if err := l.OnReadable(func(func()) poll.Turn {
		b := &lender{size: 100}
		if n, err := l.TryRead(b.Space()); n > 0 || err != nil {
			got <- fmt.Sprint(string(b.buf[:n]), err)
		}
		return poll.Short
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case s := <-got:
		if s != "message<nil>" {
			t.Error(s)
		}
	case <-time.After(patience):
		t.Error("nobody is called")
	}
}
