//go:build e2e

package e2e

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
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

// A peer that answers no ping is gone; one that does is not, however quiet.
func TestHalfOpenPeersAreFound(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(nil)
	g := start(t, settings{urls: s.url, limits: `ping_interval = "300ms"`})
	alive, _ := n.pair(g, s, nil)
	gone := g.socket(t, "/")
	up := s.accept()
	for {
		op, payload := gone.frame() // pings, which nobody answers
		if op == 0x89 {
			continue
		}
		if op != 0x88 || binary.BigEndian.Uint16([]byte(payload)) != 1001 || !strings.Contains(payload, "ping_timeout") {
			t.Errorf("%x %q", op, payload)
		}
		break
	}
	for {
		e := up.any()
		if e.Ev == "close" {
			if e.Code != 1001 {
				t.Errorf("upstream was closed with %d %q", e.Code, e.Text)
			}
			break
		}
	}
	// The other one has been asked at least as often.
	pings := 0
	for pings < 4 {
		if e := alive.any(); e.Ev == "ping" {
			pings++
		} else {
			t.Fatalf("%v", e)
		}
	}
}

// An upstream that is gone without a word is found too.
func TestAHalfOpenUpstream(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	url := backend(t, func(c *raw) {
		if head := c.request(); head != "" {
			c.send(accept(head))
			_, _ = io.Copy(io.Discard, c.br) // answers nothing
		}
	})
	g := start(t, settings{urls: url, limits: `ping_interval = "200ms"`})
	c := n.dial(g.ws("/"), nil)
	code, reason := c.closed()
	if code != 1014 || !strings.HasPrefix(reason, "upstream_timeout") {
		t.Errorf("closed with %d %q", code, reason)
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

func TestUpstreamsThatNobodyListensAt(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	g := start(t, settings{urls: "http://" + freeAddr(t)})
	e := n.refused(g.ws("/"), nil, 502)
	if p := decodeProblem(t, e.Text); p.Code != "upstream_unavailable" || !p.Retryable {
		t.Errorf("%v", e)
	}
	if a := g.get("/"); a.StatusCode != 502 {
		t.Errorf("%s", a.Status)
	}
}

// The next backend is tried when one cannot be reached.
// Connections to upstreams that lie idle are given up for clients that need their
// descriptors.
func TestIdleConnectionsMakeRoomForClients(t *testing.T) {
	t.Parallel()
	const kept = 20
	asked, answer := make(chan struct{}, kept), make(chan struct{})
	g := start(t, settings{native: true, urls: backend(t, func(c *raw) {
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
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	highest := 0
	for _, fd := range open {
		n, _ := strconv.Atoi(fd.Name())
		highest = max(highest, n)
	}
	g.limitFiles(uint64(highest) + 1)
	for range highest + 1 - len(open) + kept/2 {
		c := dialRaw(t, g.addr)
		c.send("OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")
		if a := c.response("OPTIONS"); a.StatusCode != 204 {
			t.Fatal(a.Status)
		}
	}
}

func TestTheNextBackendIsTried(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(args{"echo": true})
	g := start(t, settings{urls: "http://" + freeAddr(t) + "," + s.url})
	for range 4 {
		c := n.dial(g.ws("/"), nil)
		c.send("x")
		if got := c.message(); got != "x" {
			t.Errorf("%q", got)
		}
		if a := g.get("/"); a.StatusCode != 200 {
			t.Errorf("%s", a.Status)
		}
	}
}

func TestAKilledUpstream(t *testing.T) {
	t.Parallel()
	clients, backends := startNode(t), startNode(t)
	s := backends.serve(args{"echo": true})
	other := clients.serve(args{"echo": true})
	g := start(t, settings{urls: s.url, rest: `[[route]]
path = "/other"
upstream = "other"

[upstream.other]
urls = ["` + other.url + `"]
`})
	c := clients.dial(g.ws("/"), nil)
	c.send("x")
	c.message()
	bystander := clients.dial(g.ws("/other"), nil)
	backends.kill()
	code, reason := c.closed()
	if code != 1012 || !strings.HasPrefix(reason, "upstream_closed") {
		t.Errorf("closed with %d %q", code, reason)
	}
	g.logs.wait("the close", "msg=closed", "code=1012", "initiator=upstream", "fault=upstream_closed")
	bystander.send("hello")
	if got := bystander.message(); got != "hello" {
		t.Errorf("another tunnel got %q", got)
	}
	clients.refused(g.ws("/"), nil, 502)
}

// A client that is gone without a close frame takes its upstream along.
func TestAClientThatIsGone(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(nil)
	g := start(t, settings{urls: s.url})
	c, up := n.pair(g, s, nil)
	c.do("terminate", nil)
	if code, _ := up.closed(); code != 1001 {
		t.Errorf("upstream was closed with %d", code)
	}
	g.logs.wait("the close", "msg=closed", "initiator=client")
	eventually(t, "the tunnel to be forgotten", func() bool { return len(g.tunnels()) == 0 })
}

func TestDrain(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(nil)
	slow := make(chan struct{})
	asked := make(chan struct{}, 1)
	url := backend(t, func(c *raw) {
		if c.request() == "" {
			return
		}
		asked <- struct{}{}
		<-slow
		c.send(ok)
	})
	g := start(t, settings{urls: s.url, server: `drain_timeout = "20s"`, rest: `[[route]]
path = "/slow"
upstream = "slow"

[upstream.slow]
urls = ["` + url + `"]
`})
	const count = 20
	var clients, upstreams []*peer
	for range count {
		c, up := n.pair(g, s, nil)
		clients, upstreams = append(clients, c), append(upstreams, up)
	}
	// One request under way, one connection that is idle, one that has begun a request.
	under := dialRaw(t, g.addr)
	under.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	receive(t, "the request", asked)
	idle := dialRaw(t, g.addr)
	idle.send("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
	idle.response("GET")
	begun := dialRaw(t, g.addr)
	begun.send("GET / HTTP/1.1\r\n")
	eventually(t, "the begun request to be seen", func() bool { return g.metric(`weir_connections{state="http"}`) >= 3 })

	g.signal(syscall.SIGTERM)
	g.logs.wait("the drain", "msg=draining")
	hints := map[string]bool{}
	for i, c := range clients {
		code, reason := c.closed()
		hint, found := strings.CutPrefix(reason, "draining: retry_after_ms=")
		ms, err := strconv.Atoi(hint)
		if code != 1012 || !found || err != nil || ms < 1 || ms > 20_001 {
			t.Errorf("client %d was closed with %d %q", i, code, reason)
		}
		hints[hint] = true
		if code, _ := upstreams[i].closed(); code != 1012 {
			t.Errorf("upstream %d was closed with %d", i, code)
		}
	}
	if len(hints) < count/2 {
		t.Errorf("%d clients were given %d hints", count, len(hints))
	}
	idle.ended()
	if status, body := g.ask("GET", "/readyz"); status != 503 || !strings.Contains(string(body), "draining") {
		t.Errorf("/readyz: %d, %s", status, body)
	}
	if status, _ := g.ask("GET", "/livez"); status != 200 {
		t.Errorf("/livez: %d", status)
	}
	begun.send("Host: a\r\n\r\n")
	refused := func(c *raw) {
		t.Helper()
		a := c.response("GET")
		if p := decodeProblem(t, a.body); a.StatusCode != 503 || p.Code != "draining" || !p.Retryable || p.RetryAfterMS < 1 || a.Header.Get("Retry-After") == "" || !a.Close {
			t.Errorf("%s, %v, %s", a.Status, a.Header, a.body)
		}
		c.ended()
	}
	refused(begun)
	late := dialRaw(t, g.addr)
	late.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	refused(late)
	if p := decodeProblem(t, n.refused(g.ws("/"), nil, 503).Text); p.Code != "draining" {
		t.Errorf("%+v", p)
	}
	close(slow)
	if a := under.response("GET"); a.StatusCode != 200 || a.body != "ok" || !a.Close {
		t.Errorf("the request under way: %s, %q", a.Status, a.body)
	}
	if status := g.wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// drain_timeout is how long a drain takes at most.
func TestADrainComesToItsEnd(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	url := backend(t, func(c *raw) {
		c.request()
		asked <- struct{}{}
		_, _ = c.br.ReadByte()
	})
	g := start(t, settings{urls: url, server: `drain_timeout = "500ms"`})
	c := dialRaw(t, g.addr)
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	receive(t, "the request", asked)
	g.signal(syscall.SIGTERM)
	c.ended()
	g.wait()
	g.logs.wait("the end", "level=WARN", "msg=drain_timeout*")
}
