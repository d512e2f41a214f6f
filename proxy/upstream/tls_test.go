package upstream

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"weir/proxy/config"
	"weir/proxy/nettest"
)

// secureBackend runs script for each TLS connection of that version and returns an
// Upstream of it.
func secureBackend(t *testing.T, version uint16, cfg config.Upstream, script func(c *tls.Conn, beneath *corked)) *Upstream {
	t.Helper()
	cert, roots := nettest.Certificate()
	url := backend(t, func(p *peer) {
		beneath := &corked{Conn: p.nc}
		script(tls.Server(beneath, &tls.Config{Certificates: cert, MaxVersion: version}), beneath)
	})
	cfg.Name, cfg.URLs = "tls", []string{"https" + url[len("http"):]}
	u, err := New(&cfg, Options{TLS: &tls.Config{RootCAs: roots}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

// corked keeps what is written until it is let go, once cork is set.
type corked struct {
	net.Conn
	cork bool
	b    bytes.Buffer
}

func (c *corked) Write(p []byte) (int, error) {
	if c.cork {
		return c.b.Write(p)
	}
	return c.Conn.Write(p)
}

func (c *corked) release() {
	_ = c.SetWriteDeadline(time.Time{}) // which tls.Conn.CloseWrite leaves behind it
	_, _ = c.b.WriteTo(c.Conn)
}

// RFC 9112 §9.8: what ends with its connection is whole only behind a closure
// alert; what has a length needs none.
func TestAnAnswerThatTLSDidNotEndIsCut(t *testing.T) {
	const toEnd, withLength = "HTTP/1.1 200 OK\r\n\r\nhello", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		f := func(name, answer string, alert, together bool, want error) {
			t.Run(tls.VersionName(version)+" "+name, func(t *testing.T) {
				u := secureBackend(t, version, config.Upstream{}, func(c *tls.Conn, beneath *corked) {
					_, _ = c.Read(make([]byte, 4096))
					beneath.cork = together
					_, _ = io.WriteString(c, answer)
					if alert {
						_ = c.CloseWrite()
					}
					beneath.release()
				})
				if got, err := fetch(u, request("/", nil)); got != "hello" || !errors.Is(err, want) {
					t.Errorf("%q, %v; want %v", got, err, want)
				}
			})
		}
		f("cut", toEnd, false, false, io.ErrUnexpectedEOF)
		f("ended", toEnd, true, false, nil)
		f("ended in the same read", toEnd, true, true, nil)
		f("a length", withLength, false, false, nil)
		f("chunks", chunked, false, false, nil)
	}
}

func TestAFailedTLSHandshakeIsToldAsOne(t *testing.T) {
	f := func(want string, script func(p *peer)) {
		t.Helper()
		url := backend(t, script)
		u := to(t, config.Upstream{ConnectTimeout: 50 * time.Millisecond}, "https"+url[len("http"):])
		e := expectKind(t, u, request("/", nil), Unavailable)
		if want = fmt.Sprintf(want, url[len("http://"):]); e.Err.Error() != want {
			t.Errorf("told %q, want %q", e.Err, want)
		}
	}
	f("no whole TLS handshake with %s in 50ms (connect_timeout)", func(p *peer) { _ = p.ended() })
	f("TLS handshake with %s: the other side closed the connection", func(p *peer) {
		_, _ = p.br.Peek(5)
		_, _ = p.br.Discard(p.br.Buffered())
	})
	f("TLS handshake with %s: tls: first record does not look like a TLS handshake", func(p *peer) {
		_, _ = p.br.Peek(5)
		p.send("HTTP/1.1 400 Bad Request\r\n\r\n")
		_ = p.ended()
	})
}

// What crypto/tls has read and nobody has asked for is in no buffer that can be
// looked into, and not in the socket either.
func TestATLSConnectionThatSaysMoreIsNotUsedAgain(t *testing.T) {
	const first, more = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmore"
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		f := func(name string, sent int, reused bool) {
			t.Run(tls.VersionName(version)+" "+name, func(t *testing.T) {
				var conns atomic.Int32
				u := secureBackend(t, version, config.Upstream{}, func(c *tls.Conn, beneath *corked) {
					conns.Add(1)
					_, _ = c.Read(make([]byte, 4096))
					beneath.cork = true
					_, _ = io.WriteString(c, first)
					whole := beneath.b.Len()
					if sent > 0 {
						_, _ = io.WriteString(c, more)
						beneath.b.Truncate(whole + min(sent, beneath.b.Len()-whole))
					}
					beneath.release()
					beneath.cork = false
					_, _ = c.Read(make([]byte, 4096))
					_, _ = io.WriteString(c, first)
				})
				for range 2 {
					r := request("/", nil)
					r.Method = []byte("POST")
					expectFetch(t, u, r, "first")
				}
				if got := conns.Load() == 1; got != reused {
					t.Errorf("%d connections", conns.Load())
				}
			})
		}
		f("another answer", 1<<10, false)
		f("a piece of one", 7, false)
		f("a byte", 1, false)
		f("nothing", 0, true)
	}
}
