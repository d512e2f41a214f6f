package stream

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/http1"
	"weir/proxy/leak"
	"weir/proxy/metrics"
	"weir/proxy/nettest"
	"weir/proxy/policy"
	"weir/proxy/sock"
	"weir/proxy/upstream"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestMain fails when goroutines of Weir outlive the tests.
func TestMain(m *testing.M) { leak.Exit(m.Run(), leak.Goroutines("weir/proxy/")) }

// patience bounds every wait of a test; reaching it is a failure.
const patience = 10 * time.Second

// rig is Weir between a client and a backend, on real sockets.
type rig struct {
	t       testing.TB
	proxy   *Proxy
	route   *Route
	addr    string
	logs    *logs
	metrics *metrics.Set
	trusted []netip.Prefix // proxies
	served  chan struct{}  // one for each Serve that returned

	writeTimeout, idleTimeout time.Duration
}

// setting changes a rig before it starts.
type setting func(*rig, *config.Upstream)

func withLimits(change func(*config.Limits)) setting {
	return func(r *rig, _ *config.Upstream) { change(&r.route.Limits) }
}

func withView(v *policy.View) setting {
	return func(r *rig, _ *config.Upstream) { r.route.View = v }
}

// newRig puts Weir in front of the backend at addr (host:port).
func newRig(t testing.TB, addr string, settings ...setting) *rig {
	t.Helper()
	r := &rig{t: t, logs: new(logs), metrics: metrics.New("test"), served: make(chan struct{}, 1000), writeTimeout: patience, idleTimeout: patience}
	r.proxy = &Proxy{Log: slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})), Metrics: r.metrics}
	r.route = &Route{Name: "r", View: (*policy.Policy)(nil).View("r"), Limits: config.Limits{
		MaxBodySize: 1 << 20, MaxFrameSize: 1 << 20,
	}}
	up := &config.Upstream{
		Name: "u", URLs: []string{"http://" + addr}, Balance: "round_robin",
		ConnectTimeout: patience, ResponseTimeout: patience,
	}
	for _, s := range settings {
		s(r, up)
	}
	var err error
	if r.route.Upstream, err = upstream.New(up, upstream.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.route.Upstream.Close)

	srv := &http1.Server{
		Handler: func(x *http1.Exchange) {
			defer func() { r.served <- struct{}{} }()
			r.proxy.Serve(x, r.route, ClientOf(x.Conn(), &x.Req, r.trusted), NewRequestID(&x.Req, false))
		},
		Panic: func(v any, stack []byte) { t.Errorf("panic: %v\n%s", v, stack) },
		Settings: func() http1.Settings {
			return http1.Settings{HeadTimeout: patience, IdleTimeout: r.idleTimeout, WriteTimeout: r.writeTimeout}
		},
	}
	r.addr = nettest.Serve(t, func(c *net.TCPConn, _ int) { srv.ServeConn(sock.Wrap(c)) })
	t.Cleanup(func() {
		srv.Close()
		if err := srv.Wait(context.Background()); err != nil {
			t.Error(err)
		}
		for _, s := range r.route.Upstream.Status() {
			if s.InUse != 0 {
				t.Errorf("%+v when all is served", s)
			}
		}
	})
	return r
}

// script is a backend that plays a part on each connection, which closes after.
func script(t testing.TB, part func(p *peer)) (addr string) {
	t.Helper()
	return nettest.Serve(t, func(c *net.TCPConn, _ int) {
		defer c.Close()
		part(newPeer(t, c))
	})
}

// answering is a backend that answers each request with the same bytes, whatever
// its body, and keeps the connection.
func answering(t testing.TB, answer string) (addr string) {
	t.Helper()
	return script(t, func(p *peer) {
		for {
			req, err := http.ReadRequest(p.br)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			p.send(answer)
		}
	})
}

// peer is a raw end of a connection. What it waits for comes within patience.
type peer struct {
	net.Conn
	t  testing.TB
	br *bufio.Reader
}

func newPeer(t testing.TB, c net.Conn) *peer {
	_ = c.SetDeadline(time.Now().Add(patience))
	return &peer{Conn: c, t: t, br: bufio.NewReader(c)}
}

// dial connects a client to Weir.
func (r *rig) dial() *peer {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return newPeer(r.t, c)
}

// send writes text; that the other end has gone is for the test to notice.
func (p *peer) send(format string, args ...any) {
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	_, _ = io.WriteString(p.Conn, format)
}

// request reads the head of the next request; a failure is the zero request.
func (p *peer) request() *http.Request {
	req, err := http.ReadRequest(p.br)
	if err != nil {
		p.t.Errorf("backend: no request: %v", err)
		return new(http.Request)
	}
	return req
}

// response reads the head of the next response to a request of that method.
func (p *peer) response(method string) *http.Response {
	p.t.Helper()
	resp, err := http.ReadResponse(p.br, &http.Request{Method: method})
	if err != nil {
		p.t.Fatalf("client: no response: %v", err)
	}
	return resp
}

// text reads exactly the bytes of want.
func (p *peer) text(want string) {
	p.t.Helper()
	expect(p.t, p.br, want)
}

func expect(t testing.TB, r io.Reader, want string) {
	t.Helper()
	b := make([]byte, len(want))
	n, err := io.ReadFull(r, b)
	if string(b[:n]) != want {
		t.Errorf("got %q (%v), want %q", b[:n], err, want)
	}
}

// ended waits until the other end has closed the connection.
func (p *peer) ended() {
	p.t.Helper()
	if _, err := p.br.ReadByte(); err == nil {
		p.t.Error("a byte where the end should be")
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		p.t.Error("the connection stayed open")
	}
}

// get sends a GET without further fields and returns the whole answer.
func (r *rig) get() (*http.Response, []byte, error) {
	r.t.Helper()
	return r.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
}

// exchange sends a whole request on a connection of its own.
func (r *rig) exchange(request string) (*http.Response, []byte, error) {
	r.t.Helper()
	c := r.dial()
	defer c.Close()
	c.send("%s", request)
	method, _, _ := strings.Cut(request, " ")
	resp := c.response(method)
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// await waits until Serve has returned n times.
func (r *rig) await(n int) {
	r.t.Helper()
	for range n {
		select {
		case <-r.served:
		case <-time.After(patience):
			r.t.Fatal("Serve did not return")
		}
	}
}

// faults is what weir_faults_total counts for code.
func (r *rig) faults(code hostabi.FaultCode) int {
	return int(testutil.ToFloat64(r.metrics.Fault(code)))
}

// logs keeps what is logged.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// lines are those that contain all of parts.
func (l *logs) lines(parts ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
next:
	for line := range strings.Lines(l.b.String()) {
		for _, p := range parts {
			if !strings.Contains(line, p) {
				continue next
			}
		}
		found = append(found, line)
	}
	return found
}
