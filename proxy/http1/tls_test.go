package http1

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"weir/proxy/nettest"
	"weir/proxy/sock"
)

// listenTLS serves s over TLS; it returns a connection to it.
func listenTLS(t *testing.T, s *Server) (*tls.Conn, *bufio.Reader) {
	t.Helper()
	cert, roots := nettest.Certificate()
	addr := nettest.Serve(t, func(c *net.TCPConn, _ int) {
		s.ServeConn(sock.Server(c, &tls.Config{Certificates: cert}))
	})
	t.Cleanup(s.Close)
	c := tls.Client(&wire{Conn: nettest.Dial(t, addr)}, &tls.Config{RootCAs: roots, ServerName: "example.com"})
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

// wire is what TLS is spoken on. crypto/tls takes the end of that between records
// for the end of TLS.
type wire struct {
	net.Conn
	cut bool // it ended before TLS did
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.cut = w.cut || n == 0 && err != nil
	return n, err
}

// Whoever closes says so before (RFC 9112 §9.8), also where nobody waits for
// anything.
func TestTLSIsEndedWherever(t *testing.T) {
	soon := func() Settings { return Settings{HeadTimeout: patience, IdleTimeout: time.Millisecond} }
	for name, s := range map[string]*Server{
		"idle for too long": {Handler: hello, Settings: soon},
		"drained":           {Handler: hello},
	} {
		c, br := listenTLS(t, s)
		_, _ = io.WriteString(c, get)
		got := make([]byte, len(gotA))
		if _, err := io.ReadFull(br, got); string(got) != gotA {
			t.Errorf("%s: %q %v", name, got, err)
		}
		if name == "drained" {
			s.Drain()
		}
		if _, err := br.ReadByte(); err != io.EOF || c.NetConn().(*wire).cut {
			t.Errorf("%s: %v, without close_notify: %v", name, err, c.NetConn().(*wire).cut)
		}
	}
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
		nettest.Within(t, gone, "gone")
		stop()
		x.Abort()
	}})
	_, _ = io.WriteString(c, get)
	nettest.Within(t, watching, "the watch")
	_ = c.Close()
	nettest.Within(t, gone, "gone")
}

// What a client has not taken of a 100 (Continue) is not left out of its answer.
func TestAContinueThatIsNotTakenEndsTheConnection(t *testing.T) {
	cert, _ := nettest.Certificate()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		s := &Server{
			Settings: func() Settings { return Settings{IdleTimeout: time.Minute, WriteTimeout: time.Second} },
			Handler: func(x *Exchange) {
				_, _ = io.ReadAll(x.Body)
				_ = x.Respond(200, "", nil)
			},
		}
		go s.ServeConn(sock.Server(pipeTCP{Conn: near}, &tls.Config{Certificates: cert}))
		c := tls.Client(far, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}) //nolint:gosec // 1.3 has the client read tickets
		_, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		_, _ = io.WriteString(c, "x")
		got := make([]byte, 1<<10)
		for n := 0; ; {
			k, err := c.Read(got[n:])
			if n += k; err != nil {
				if n > 0 {
					t.Errorf("got %q", got[:n])
				}
				return
			}
		}
	})
}

// pipeTCP has a pipe taken for TCP.
type pipeTCP struct{ net.Conn }

func (pipeTCP) SyscallConn() (syscall.RawConn, error)        { return nil, errors.ErrUnsupported }
func (pipeTCP) CloseWrite() error                            { return nil }
func (pipeTCP) SetLinger(int) error                          { return nil }
func (pipeTCP) SetKeepAliveConfig(net.KeepAliveConfig) error { return nil }
