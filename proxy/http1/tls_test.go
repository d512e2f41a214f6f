package http1

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"weir/proxy/sock"
)

// listenTLS serves s over TLS; it returns a connection to it.
func listenTLS(t *testing.T, s *Server) (*tls.Conn, *bufio.Reader) {
	t.Helper()
	h := httptest.NewTLSServer(nil) // for its certificate
	h.Close()
	roots := x509.NewCertPool()
	roots.AddCert(h.Certificate())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := l.Accept(); err == nil {
			s.ServeConn(sock.Server(c.(*net.TCPConn), &tls.Config{Certificates: h.TLS.Certificates}))
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		s.Close()
		<-done
	})
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "example.com"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c, bufio.NewReader(c)
}

func TestTLSKeepsAliveAndEndsProperly(t *testing.T) {
	c, br := listenTLS(t, &Server{Handler: hello})
	for _, request := range []string{get, get + get, "GET /a HTTP/1.0\r\n\r\n"} {
		_, _ = io.WriteString(c, request)
	}
	want := gotA + gotA + gotA + "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\n/a"
	if got, err := io.ReadAll(br); string(got) != want || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

func TestTLSWatchSeesTheClientLeave(t *testing.T) {
	gone, watching := make(chan struct{}), make(chan struct{})
	c, _ := listenTLS(t, &Server{Handler: func(x *Exchange) {
		stop := x.Watch(func() { close(gone) })
		close(watching)
		within(t, gone, "gone")
		stop()
		x.Abort()
	}})
	_, _ = io.WriteString(c, get)
	within(t, watching, "the watch")
	_ = c.Close()
	within(t, gone, "gone")
}

func TestARefusedUpgradeClosesTheConnection(t *testing.T) {
	c := dial(t, listen(t, &Server{Handler: hello}))
	c.send("GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + get)
	c.expect("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\n/a")
	_ = c.nc.CloseWrite()
	if rest, err := io.ReadAll(c.br); len(rest) > 0 || err != nil {
		t.Errorf("what stood behind it was taken for a request: %q", rest)
	}
}
