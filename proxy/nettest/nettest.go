// Package nettest is for tests: TCP over loopback, a certificate for TLS on it, and
// waits that end.
package nettest

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait of a test; none should come near it.
const patience = 10 * time.Second

// Listen listens on a free port of loopback until the test ends.
func Listen(t testing.TB) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener)
}

// Serve accepts connections until the test ends, and joins their handlers. n is of
// the connection, the first being 1.
func Serve(t testing.TB, handle func(c *net.TCPConn, n int)) (addr string) {
	t.Helper()
	l := Listen(t)
	var serving sync.WaitGroup
	serving.Go(func() {
		for n := 1; ; n++ {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			serving.Go(func() { handle(c, n) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// Pair returns both ends of a connection.
func Pair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l := Listen(t)
	defer l.Close()
	return Dial(t, l.Addr().String()), Accept(t, l)
}

// Dial connects to addr until the test ends.
func Dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// Accept accepts one connection until the test ends.
func Accept(t testing.TB, l *net.TCPListener) *net.TCPConn {
	t.Helper()
	c, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Refusing is an address that nobody listens at.
func Refusing(t testing.TB) (addr string) {
	t.Helper()
	l := Listen(t)
	_ = l.Close()
	return l.Addr().String()
}

// Certificate returns one for example.com and 127.0.0.1, and the pool that trusts it.
func Certificate() (own []tls.Certificate, roots *x509.CertPool) {
	s := httptest.NewTLSServer(nil)
	s.Close()
	roots = x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s.TLS.Certificates, roots
}

// Within returns what comes from ch, and fails the test when it stays silent.
func Within[T any](t testing.TB, ch <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Error(what + " did not happen")
	}
	return v
}
