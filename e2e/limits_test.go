//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestMessageRate(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(nil)
	g := start(t, settings{urls: s.url, native: true, limits: "message_rate = 5\nmessage_burst = 10"})
	client, upstream := n.pair(g, s, nil)
	began := time.Now()
	for i := range 60 {
		client.send(fmt.Sprint(i))
	}
	client.do("ping", args{"text": "end"}) // control frames are not counted
	refused, passed := 0, 0
	for {
		e := client.any()
		if e.Ev == "pong" {
			break
		}
		if r := decodeError(t, e.Text); r.Error.Code != "rate_limited" || !r.Error.Retryable || r.Error.Limit != 5 {
			t.Fatalf("%+v", r)
		}
		refused++
	}
	allowed := 10 + int(5*time.Since(began).Seconds()) + 1
	for e := upstream.any(); e.Ev != "ping"; e = upstream.any() {
		passed++
	}
	if passed+refused != 60 || passed < 10 || passed > allowed {
		t.Errorf("%d passed and %d were refused of 60; at most %d are allowed", passed, refused, allowed)
	}
	if n := g.metric(`weir_faults_total{code="rate_limited"}`); int(n) != refused {
		t.Errorf("counted %v", n)
	}
	// What upstream sends is not limited, and another client has a rate of its own.
	for i := range 100 {
		upstream.send(fmt.Sprint(i))
	}
	for i := range 100 {
		if got := client.message(); got != fmt.Sprint(i) {
			t.Fatalf("%q", got)
		}
	}
	other, otherUp := n.pair(g, s, nil)
	other.send("x")
	if got := otherUp.message(); got != "x" {
		t.Errorf("%q", got)
	}
}

func TestMaxConnections(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(args{"echo": true})
	g := start(t, settings{urls: s.url, limits: `max_connections = 2`})
	first := n.dial(g.ws("/"), nil)
	n.dial(g.ws("/"), nil)
	e := n.refused(g.ws("/"), nil, 503)
	p := decodeProblem(t, e.Text)
	if p.Code != "too_many_connections" || !p.Retryable || !strings.Contains(p.Detail, "max_connections is 2") || e.header("connection") != "close" {
		t.Errorf("%v", e)
	}
	first.send("still here")
	if got := first.message(); got != "still here" {
		t.Errorf("%q", got)
	}
	first.do("close", args{"code": 1000})
	first.closed()
	eventually(t, "room for another", func() bool { return n.open(g.ws("/"), nil).any().Ev == "open" })
}

func TestMaxConnectionsPerIP(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(args{"echo": true})
	g := start(t, settings{urls: s.url, limits: `max_connections_per_ip = 2`})
	n.dial(g.ws("/"), nil)
	n.dial(g.ws("/"), nil)
	e := n.refused(g.ws("/"), nil, 503)
	if p := decodeProblem(t, e.Text); p.Code != "too_many_connections" || !strings.Contains(p.Detail, "max_connections_per_ip is 2") {
		t.Errorf("%v", e)
	}
	elsewhere := args{"localAddress": "127.0.0.9"}
	n.dial(g.ws("/"), elsewhere)
	n.dial(g.ws("/"), elsewhere)
	n.refused(g.ws("/"), elsewhere, 503)
}

func TestARoutesOwnLimits(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(args{"echo": true})
	g := start(t, settings{
		urls: s.url, route: "path = \"/small\"\nlimits = { max_connections = 1, max_message_size = 10, max_body_size = 10 }",
		rest: "[[route]]\nname = \"large\"\nupstream = \"u\"\n",
	})
	small := n.dial(g.ws("/small/x"), nil)
	if p := decodeProblem(t, n.refused(g.ws("/small"), nil, 503).Text); p.Code != "too_many_connections" || p.Limit != 1 {
		t.Errorf("%+v", p)
	}
	large := n.dial(g.ws("/smaller"), nil) // "/small" is no prefix of it
	small.send("eleven chars")
	if e := decodeError(t, small.message()); e.Error.Limit != 10 {
		t.Errorf("%+v", e)
	}
	large.send("eleven chars")
	if got := large.message(); got != "eleven chars" {
		t.Errorf("%q", got)
	}
	small.do("close", args{"code": 1000})
	eventually(t, "room on the route", func() bool { return g.get("/small").StatusCode == 200 })
	for path, want := range map[string]int{"/small": 413, "/": 200} {
		// The request before it may not have left the route yet.
		eventually(t, fmt.Sprintf("%s to be answered %d", path, want), func() bool {
			resp, err := client.Post(g.http(path), "text/plain", strings.NewReader("eleven chars"))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			return resp.StatusCode == want
		})
	}
}

func TestIdleTunnelsAreClosed(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(args{"echo": true})
	g := start(t, settings{urls: s.url, limits: "idle_timeout = \"2s\"\nping_interval = \"500ms\""})
	c, up := n.pair(g, s, nil)
	// Messages keep it open, pings alone do not.
	for range 8 {
		c.send("x")
		if e := awaitMessage(c); e.Text != "x" {
			t.Fatalf("%v", e)
		}
	}
	for _, p := range []*peer{c, up} {
		if code, reason := p.closed(); code != 1001 || !strings.HasPrefix(reason, "idle_timeout") {
			t.Errorf("closed with %d %q", code, reason)
		}
	}
	g.logs.wait("the close", "msg=closed", "code=1001", "initiator=weir")
}

// awaitMessage skips what is no message.
func awaitMessage(p *peer) event {
	p.n.t.Helper()
	for {
		if e := p.any(); e.Ev == "message" {
			return e
		}
	}
}

func TestIdleKeepAliveConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	g := start(t, settings{limits: `idle_timeout = "300ms"`})
	c := dialRaw(t, g.addr)
	c.send("GET /status/204 HTTP/1.1\r\nHost: a\r\n\r\n")
	if a := c.response("GET"); a.StatusCode != 204 || a.Close {
		t.Errorf("%s", a.Status)
	}
	c.ended()
}

// Connections to upstreams that lie idle are given up for clients that need their
// descriptors.
func TestIdleConnectionsMakeRoomForClients(t *testing.T) {
	t.Parallel()
	g, kept := withIdle(t)
	for range kept / 2 {
		g.client()
	}
}

// And for operators.
func TestIdleConnectionsMakeRoomForOperators(t *testing.T) {
	t.Parallel()
	g, _ := withIdle(t)
	c := dialRaw(t, g.admin)
	c.send("GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	if a := c.response("GET"); a.StatusCode != 200 {
		t.Error(a.Status)
	}
}

// And for the files that a reload reads.
func TestIdleConnectionsMakeRoomForReloads(t *testing.T) {
	t.Parallel()
	g, _ := withIdle(t)
	g.limitsChange("max_connections = 100")
}

// limitsChange holds that other limits are taken up at the first attempt.
func (g *gateway) limitsChange(limits string) {
	g.t.Helper()
	s := g.settings
	s.limits = limits
	g.configure(s)
	g.logs.wait("the reload", "msg=reloaded")
	if failed := g.logs.all("msg=reload failed*"); len(failed) > 0 {
		g.t.Error(failed)
	}
}

// Clients, though they are allowed, take no descriptors that operators and reloads need.
func TestClientsLeaveDescriptorsToOperators(t *testing.T) {
	t.Parallel()
	g := start(t, settings{native: true, files: 200 + 2*max(runtime.NumCPU()-8, 0)})
	for range 36 { // (200-128)/2
		g.client()
	}
	for range 300 {
		dialRaw(t, g.addr)
	}
	c := dialRaw(t, g.admin)
	c.send("GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	if a := c.response("GET"); a.StatusCode != 200 {
		t.Error(a.Status)
	}
	g.limitsChange("max_connections = 36")
	if refused := g.logs.all("msg=connections cannot be accepted"); len(refused) > 0 {
		t.Error(refused)
	}
}

// It does not start where it could serve none.
func TestTooFewFilesToStart(t *testing.T) {
	t.Parallel()
	path := write(t, "gateway.toml", settings{native: true}.toml(freeAddr(t), freeAddr(t)))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "/bin/sh", "-c", `ulimit -n 129; export GOMAXPROCS=2; exec "$0" run -c "$1"`, weir, path).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "129 files may be open, Weir needs 130 at least") {
		t.Errorf("%v, %s", err, out)
	}
}

// withIdle is a Weir that has no descriptor left, and kept connections to its upstream
// that are idle.
func withIdle(t *testing.T) (g *gateway, kept int) {
	t.Helper()
	kept = 20
	asked, answer := make(chan struct{}, kept), make(chan struct{})
	g = start(t, settings{native: true, urls: backend(t, func(c *raw) {
		if c.request() != "" {
			asked <- struct{}{}
			<-answer
			c.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			c.request()
		}
	})})
	clients := make([]*raw, kept)
	for i := range clients {
		clients[i] = dialRaw(t, g.addr)
		clients[i].send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		receive(t, "the request", asked)
	}
	close(answer)
	for _, c := range clients {
		c.response("GET")
	}
	g.exhaustFiles(0)
	return g, kept
}

// client is a connection that Weir serves and that has none to an upstream.
func (g *gateway) client() *raw {
	g.t.Helper()
	c := dialRaw(g.t, g.addr)
	c.send("OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")
	if a := c.response("OPTIONS"); a.StatusCode != 204 {
		g.t.Fatal(a.Status)
	}
	return c
}
