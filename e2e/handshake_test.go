//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

func TestTheHandshakeIsCarried(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(args{"echo": true, "protocol": "chat.v2"})
	g := start(t, settings{urls: s.url})
	c := n.dial(g.ws("/rooms/a%20b?token=a%26b&x"), args{
		"protocols": []string{"chat.v1", "chat.v2"},
		"headers":   map[string]string{"Cookie": "a=1; b=2", "X-Custom": "yes", "Origin": "https://elsewhere.example"},
	})
	if c.opened.Protocol != "chat.v2" {
		t.Errorf("subprotocol %q", c.opened.Protocol)
	}
	up := s.accept()
	if up.opened.URL != "/rooms/a%20b?token=a%26b&x" {
		t.Errorf("target %q", up.opened.URL)
	}
	for name, want := range map[string]string{
		"cookie": "a=1; b=2", "x-custom": "yes", "origin": "https://elsewhere.example", "host": g.addr,
		"sec-websocket-protocol": "chat.v1,chat.v2", "sec-websocket-version": "13",
		"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http",
	} {
		if got := up.opened.header(name); got != want {
			t.Errorf("upstream saw %s: %q, want %q", name, got, want)
		}
	}
	c.send("hello")
	if got := c.message(); got != "hello" {
		t.Errorf("got %q", got)
	}
}

// The ws client offers permessage-deflate and the ws server would take it.
func TestExtensionsAreNotNegotiated(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(args{"echo": true})
	direct := n.dial("ws"+strings.TrimPrefix(s.url, "http"), nil)
	if !strings.Contains(direct.opened.Extensions, "permessage-deflate") {
		t.Fatalf("without Weir they agree on %q", direct.opened.Extensions)
	}
	s.accept()
	g := start(t, settings{urls: s.url})
	c := n.dial(g.ws("/"), nil)
	if c.opened.Extensions != "" || c.opened.header("sec-websocket-extensions") != "" {
		t.Errorf("client got extensions %q", c.opened.Extensions)
	}
	if got := s.accept().opened.header("sec-websocket-extensions"); got != "" {
		t.Errorf("upstream was offered %q", got)
	}
}

func TestAllowedOrigins(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(args{"echo": true})
	g := start(t, settings{urls: s.url, route: `allowed_origins = ["https://app.example.com"]`})
	origin := func(o string) args { return args{"headers": map[string]string{"Origin": o}} }
	n.dial(g.ws("/"), origin("https://app.example.com"))
	n.dial(g.ws("/"), origin("https://APP.example.com"))
	n.dial(g.ws("/"), nil) // not a browser
	for _, o := range []string{"https://evil.example", "http://app.example.com", "https://app.example.com.evil.example", "https://app.example.com:444", "null"} {
		e := n.refused(g.ws("/"), origin(o), 403)
		problem := decodeProblem(t, e.Text)
		if problem.Code != "not_admitted" || problem.Retryable || !strings.Contains(problem.Detail, o) {
			t.Errorf("%s: %s", o, e.Text)
		}
	}
	for range 3 {
		s.accept()
	}
	s.quiet()
	// Only handshakes are asked for their origin.
	resp := dialRaw(t, g.addr)
	resp.send("GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://evil.example\r\n\r\n")
	if a := resp.response("GET"); a.StatusCode != 200 {
		t.Errorf("a GET from elsewhere: %s", a.Status)
	}
}

func TestAnUpstreamsRefusalReachesTheClient(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	const size = 40 << 10
	s := n.serve(args{"size": size})
	g := start(t, settings{urls: s.url, limits: "max_connections = 10"}) // for which there are files enough
	e := n.refused(g.ws("/refuse"), nil, 401)
	if len(e.Text) != size || strings.Trim(e.Text, "no") != "" {
		t.Errorf("body of %d bytes", len(e.Text))
	}
	for name, want := range map[string]string{"www-authenticate": `Bearer realm="x"`, "x-why": "because", "content-type": "text/x-why"} {
		if got := e.header(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	// It is the upstream's answer, and no fault of Weir's.
	if lines := g.logs.all("level=WARN"); len(lines) > 0 {
		t.Errorf("logged %v", lines)
	}
}

func TestWhatIsNoHandshakeIsRefused(t *testing.T) {
	t.Parallel()
	g := start(t, settings{})
	head := func(fields string) string {
		return "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + fields + "\r\n"
	}
	for name, fields := range map[string]string{
		"an old version": "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
		"no version":     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
		"two versions":   "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
		"no key":         "Sec-WebSocket-Version: 13\r\n",
		"a short key":    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhl\r\n",
		"two keys":       "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
	} {
		c := dialRaw(t, g.addr)
		c.send(head(fields))
		a := c.response("GET")
		if p := decodeProblem(t, a.body); a.StatusCode/100 != 4 || p.Code != "protocol_error" || p.Retryable {
			t.Errorf("%s: %s, %s", name, a.Status, a.body)
		}
		if strings.Contains(name, " version") && a.Header.Get("Sec-WebSocket-Version") != "13" {
			t.Errorf("%s: the answer does not say which is spoken", name)
		}
	}
}

// Bytes that come right behind a handshake belong to the tunnel.
func TestAFrameInThePacketOfTheHandshake(t *testing.T) {
	t.Parallel()
	g := start(t, settings{})
	c := dialRaw(t, g.addr)
	c.send(upgrade("/ws") + frame(0x81, true, "early"))
	if resp := c.head("GET"); resp.StatusCode != 101 {
		t.Fatal(resp.Status)
	}
	if op, payload := c.frame(); op != 0x81 || payload != "early" {
		t.Errorf("%x %q", op, payload)
	}
}

// A backend that does not speak WebSocket is not made to look as if it did: its
// answer is passed on as it is.
func TestUpstreamsThatDoNotShakeHands(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	g := start(t, settings{urls: answering(t, ok, nil)})
	if e := n.refused(g.ws("/"), nil, 200); e.Text != "ok" {
		t.Errorf("%v", e)
	}
}
