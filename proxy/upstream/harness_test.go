package upstream

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"weir/proxy/config"
	"weir/proxy/http1"
	"weir/proxy/leak"
	"weir/proxy/nettest"
	"weir/proxy/sock"
)

// TestMain fails when goroutines of Weir outlive the tests.
func TestMain(m *testing.M) { leak.Exit(m.Run(), leak.Goroutines("weir/proxy/")) }

// patience bounds every wait of a test; none should come near it.
const patience = 10 * time.Second

// peer is the backend's side of one connection.
type peer struct {
	t  testing.TB
	nc *net.TCPConn
	br *bufio.Reader
	n  int // of the connection, the first being 1
}

// backend runs script for each connection; URL is its address.
func backend(t testing.TB, script func(p *peer)) (url string) {
	t.Helper()
	return "http://" + nettest.Serve(t, func(c *net.TCPConn, n int) {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		script(&peer{t: t, nc: c, br: bufio.NewReader(c), n: n})
	})
}

// head reads a request head; empty: the connection ended.
func (p *peer) head() string {
	var b strings.Builder
	for {
		line, err := p.br.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			return ""
		}
		if line == "\r\n" {
			return b.String()
		}
	}
}

func (p *peer) send(s string) { _, _ = io.WriteString(p.nc, s) }

// expect reads exactly want.
func (p *peer) expect(want string) bool {
	b := make([]byte, len(want))
	n, err := io.ReadFull(p.br, b)
	if string(b[:n]) != want {
		p.t.Errorf("upstream got %q (%v), want %q", b[:n], err, want)
		return false
	}
	return true
}

// ended waits for the end of what the proxy sends.
func (p *peer) ended() error {
	_, err := io.Copy(io.Discard, p.br)
	return err
}

// answer sends a whole small answer.
func (p *peer) answer(body string) {
	p.send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
}

// to makes an Upstream of urls.
func to(t testing.TB, cfg config.Upstream, urls ...string) *Upstream {
	t.Helper()
	cfg.Name, cfg.URLs = "test", urls
	u, err := New(&cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	u.Watch()
	return u
}

// request makes a Request; with a body it is POST and chunked.
func request(target string, body io.Reader) *Request {
	r := &Request{Method: []byte("GET"), Target: []byte(target), Host: []byte("a"), Body: body, ContentLength: -1}
	if body != nil {
		r.Method = []byte("POST")
	}
	return r
}

// fetch does r and reads the whole answer.
func fetch(u *Upstream, r *Request) (string, error) {
	var resp http1.Response
	e, err := u.Do(r, &resp)
	if err != nil {
		return "", err
	}
	var b []byte
	if e.Body != nil {
		b, err = io.ReadAll(e.Body)
	}
	e.Finish(err == nil)
	return string(b), err
}

// expectFetch does it and wants body.
func expectFetch(t testing.TB, u *Upstream, r *Request, body string) {
	t.Helper()
	if got, err := fetch(u, r); got != body || err != nil {
		t.Errorf("got %q, %v; want %q", got, err, body)
	}
}

// expectKind does it and wants an error, after which nothing is in use.
func expectKind(t testing.TB, u *Upstream, r *Request, kind Kind) *Error {
	t.Helper()
	_, err := fetch(u, r)
	e, ok := err.(*Error)
	if !ok || e.Kind != kind {
		t.Fatalf("got %v, want kind %s", err, kind)
	}
	for _, s := range u.Status() {
		if s.InUse != 0 {
			t.Errorf("%+v after %v", s, e)
		}
	}
	return e
}

// deadlines is a connection that knows whether the last one that was set is ahead.
type deadlines struct {
	sock.TCP
	ahead bool
}

// noted puts one beneath e, which has set some already.
func noted(e *Exchange) *deadlines {
	d := &deadlines{e.c.nc.Clear(), true}
	e.c.nc = sock.Wrap(d)
	return d
}

func (d *deadlines) SetDeadline(t time.Time) error {
	d.ahead = !t.IsZero()
	return d.TCP.SetDeadline(t)
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.ahead = !t.IsZero()
	return d.TCP.SetWriteDeadline(t)
}

// refusing is the URL of a port that nobody listens on.
func refusing(t testing.TB) string { return "http://" + nettest.Refusing(t) }
