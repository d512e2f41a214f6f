package sock

import (
	"bytes"
	"crypto/tls"
	"sync"
	"testing"
	"time"

	"weir/proxy/leak"
	"weir/proxy/nettest"
	"weir/proxy/poll"
)

// TestMain fails when goroutines of this package outlive its tests.
func TestMain(m *testing.M) { leak.Exit(m.Run(), leak.Goroutines("weir/proxy/")) }

// leg is what a tunnel needs of a connection: Conn and Leg have it.
type leg interface {
	ReadTo(b Buffer) (int, error)
	TryWrite(p []byte) (int, error)
	Pending() int
	Drain(more func() bool) error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	CloseWrite() error
	Close() error
	Abort() error
}

// over runs f on a pair of connected ends: over TCP and over TLS, each waiting
// in goroutines and on a loop.
func over(t *testing.T, f func(t *testing.T, a, b leg)) {
	both := func(name string, pair func(t testing.TB) (a, b *Conn)) {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			f(t, unblocked(t, a), unblocked(t, b))
		})
		t.Run(name+" on a loop", func(t *testing.T) {
			a, b := pair(t)
			p, err := poll.New(1, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.Close)
			f(t, onLoop(t, p, a), onLoop(t, p, b))
		})
	}
	both("tcp", func(t testing.TB) (a, b *Conn) {
		x, y := nettest.Pair(t)
		return Wrap(x), Wrap(y)
	})
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		both(tls.VersionName(v), func(t testing.TB) (a, b *Conn) { return tlsPair(t, v) })
	}
}

// secured is the TLS beneath an end; nil on TCP.
func secured(l leg) *secure {
	if c, ok := l.(*Conn); ok {
		return c.tls
	}
	return l.(*Leg).tls
}

func onLoop(t testing.TB, p *poll.Poller, c *Conn) *Leg {
	t.Helper()
	l, err := c.Leg(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func unblocked(t testing.TB, c *Conn) *Conn {
	t.Helper()
	if err := c.Unblock(); err != nil {
		t.Fatal(err)
	}
	return c
}

func tlsPair(t testing.TB, version uint16) (client, server *Conn) {
	t.Helper()
	own, roots := nettest.Certificate()
	x, y := nettest.Pair(t)
	client = Client(x, &tls.Config{RootCAs: roots, ServerName: "example.com", MaxVersion: version})
	server = Server(y, &tls.Config{Certificates: own, MaxVersion: version})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Handshake(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if err := client.Handshake(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if got := client.TLS().Version; got != version {
		t.Fatalf("TLS %#x, want %#x", got, version)
	}
	return client, server
}

// lender lends memory to ReadTo and knows whether any is out.
type lender struct {
	mu     sync.Mutex
	buf    []byte // nil while the reader is parked
	size   int
	parked chan struct{} // told when the reader parks; may be nil
}

func (l *lender) Space() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf == nil {
		l.buf = make([]byte, l.size)
	}
	return l.buf
}

func (l *lender) Idle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = nil
	if l.parked != nil {
		select {
		case l.parked <- struct{}{}:
		default:
		}
	}
}

func (l *lender) holds() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf != nil
}

// readAll reads until the end or n bytes; n < 0: until the end.
func readAll(c leg, n int) ([]byte, error) {
	var all bytes.Buffer
	l := &lender{size: 10_000}
	for n < 0 || all.Len() < n {
		k, err := c.ReadTo(l)
		if err != nil {
			return all.Bytes(), err
		}
		all.Write(l.buf[:k])
	}
	return all.Bytes(), nil
}

// send is what a sink does: TryWrite, and Drain for the rest. portion bounds
// what is offered at a time.
func send(c leg, p []byte, portion int) error {
	var failed error
	err := c.Drain(func() bool {
		for len(p) > 0 {
			offer := p[:min(portion, len(p))]
			n, err := c.TryWrite(offer)
			if err != nil {
				failed = err
				return true
			}
			p = p[n:]
			if n < len(offer) {
				return false
			}
		}
		return true
	})
	if failed != nil {
		return failed
	}
	return err
}

// shake has both ends make their TLS handshake.
func shake(t testing.TB, client *tls.Conn, server *Conn) {
	t.Helper()
	var served sync.WaitGroup
	served.Go(func() {
		if err := server.Handshake(t.Context()); err != nil {
			t.Error(err)
		}
	})
	err := client.Handshake()
	served.Wait()
	if err != nil {
		t.Fatal(err)
	}
}
