//go:build e2e

package e2e

import (
	"encoding/binary"
	"io"
	"strings"
	"testing"
)

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

// A backend whose health check fails gets no work until it is well again.
func TestAnUnhealthyBackendIsLeftOut(t *testing.T) {
	t.Parallel()
	serve := func(name string, health <-chan string) string {
		status := "200 OK"
		return backend(t, func(c *raw) {
			for {
				head := c.request()
				if head == "" {
					return
				}
				if !strings.HasPrefix(head, "GET /healthz ") {
					c.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + name)
					continue
				}
				select {
				case status = <-health: // only one connection asks at a time
				default:
				}
				c.send("HTTP/1.1 " + status + "\r\nContent-Length: 0\r\n\r\n")
			}
		})
	}
	health := make(chan string, 1)
	g := start(t, settings{native: true, urls: serve("a", nil) + "," + serve("b", health), upstream: `health_path = "/healthz"`})
	ask := func() (who string) {
		for range 8 {
			who += g.get("/").body
		}
		return who
	}
	eventually(t, "both to answer", func() bool { w := ask(); return strings.Contains(w, "a") && strings.Contains(w, "b") })
	health <- "500 Sick"
	eventually(t, "the sick one to be left out", func() bool { return ask() == "aaaaaaaa" })
	health <- "200 OK"
	eventually(t, "it to be back", func() bool { return strings.Contains(ask(), "b") })
}
