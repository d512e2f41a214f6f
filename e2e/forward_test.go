//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestWhatTheUpstreamSeesOfARequest(t *testing.T) {
	t.Parallel()
	const (
		trace  = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		absent = "(absent)"
	)
	for _, c := range []struct {
		name, server, head string
		want               map[string]string // fields; lines joined with " | "
	}{
		{
			"end-to-end fields as they are", "", "X-Custom: A b\r\nCookie: a=1; b=\"2\"\r\nAccept: */*\r\nX-Two: 1\r\nX-Two: 2\r\n",
			map[string]string{"X-Custom": "A b", "Cookie": `a=1; b="2"`, "Accept": "*/*", "X-Two": "1 | 2", "Host": "a", "Via": "1.1 weir"},
		},
		{
			"hop-by-hop fields are gone", "",
			"Connection: keep-alive, X-Secret\r\nX-Secret: s\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nTE: gzip, trailers\r\nProxy-Authorization: Basic x\r\nUpgrade: h2c\r\n",
			map[string]string{"X-Secret": absent, "Keep-Alive": absent, "Proxy-Connection": absent, "Te": "trailers", "Connection": "TE", "Proxy-Authorization": absent, "Upgrade": absent},
		},
		{
			"nobody's word is taken on who the client is", "",
			"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nX_Forwarded_For: 1.2.3.4\r\n",
			map[string]string{
				"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "a", "X-Forwarded-Port": absent,
				"Forwarded": "for=127.0.0.1;host=a;proto=http", "X-Real-Ip": absent, "X_Forwarded_For": absent,
			},
		},
		{
			"a trusted proxy's word is extended", `trusted_proxies = ["127.0.0.0/8"]`,
			"X-Forwarded-For: 203.0.113.7, 198.51.100.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: app.example\r\nForwarded: for=203.0.113.7;proto=https, for=198.51.100.1\r\n",
			map[string]string{
				"X-Forwarded-For": "203.0.113.7, 198.51.100.1, 127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "app.example",
				"Forwarded": "for=203.0.113.7;proto=https, for=198.51.100.1, for=127.0.0.1;host=a;proto=http",
			},
		},
		{
			"but not what it has passed on", `trusted_proxies = ["127.0.0.0/8"]`, "X-Forwarded-For: 203.0.113.7\r\nForwarded: for=1.2.3.4\r\n",
			map[string]string{"X-Forwarded-For": "203.0.113.7, 127.0.0.1", "Forwarded": "for=203.0.113.7, for=127.0.0.1;host=a;proto=http"},
		},
		{
			"proxies elsewhere are not trusted", `trusted_proxies = ["10.0.0.0/8"]`, "X-Forwarded-For: 203.0.113.7\r\n",
			map[string]string{"X-Forwarded-For": "127.0.0.1"},
		},
		{
			"ids are passed", "", "X-Request-Id: r-1\r\nTraceparent: " + trace + "\r\nTracestate: a=b\r\n",
			map[string]string{"X-Request-Id": "r-1", "Traceparent": trace, "Tracestate": "a=b"},
		},
		{
			"ids that are none are made anew", "", "X-Request-Id: <script>\r\nTraceparent: 00-0-0-00\r\nTracestate: a=b\r\n",
			map[string]string{"X-Request-Id": `[0-9a-f]{32}`, "Traceparent": `00-[0-9a-f]{32}-[0-9a-f]{16}-00`, "Tracestate": absent},
		},
		{
			"ids are made", "", "",
			map[string]string{"X-Request-Id": `[0-9a-f]{32}`, "Traceparent": `00-[0-9a-f]{32}-[0-9a-f]{16}-00`},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen := make(chan string, 1)
			g := start(t, settings{native: true, server: c.server, urls: answering(t, ok, seen)})
			client := dialRaw(t, g.addr)
			client.send("GET /a%2Fb/../c?q=%20&r HTTP/1.1\r\nHost: a\r\n" + c.head + "\r\n")
			if a := client.response("GET"); a.StatusCode != 200 || a.body != "ok" {
				t.Fatalf("%s %q", a.Status, a.body)
			}
			head := receive(t, "the request", seen)
			if line, _, _ := strings.Cut(head, "\r\n"); line != "GET /a%2Fb/../c?q=%20&r HTTP/1.1" {
				t.Errorf("%q", line)
			}
			for name, want := range c.want {
				got := absent
				if all := fields(head, name); len(all) > 0 {
					got = strings.Join(all, " | ")
				}
				if got != want && (want == absent || !regexp.MustCompile("^"+want+"$").MatchString(got)) {
					t.Errorf("%s: %q, want %q\n%s", name, got, want, head)
				}
			}
		})
	}
}

func TestWhatTheClientSeesOfAnAnswer(t *testing.T) {
	t.Parallel()
	g := start(t, settings{native: true, urls: answering(t, "HTTP/1.1 418 I'm a teapot\r\nContent-Length: 2\r\nX-A: 1\r\nX-A: 2\r\n"+
		"Set-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\nConnection: X-Hop\r\nX-Hop: h\r\nKeep-Alive: timeout=9\r\nServer: theirs\r\n\r\nok", nil)})
	c := dialRaw(t, g.addr)
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	a := c.response("GET")
	if a.Status != "418 I'm a teapot" || a.body != "ok" || a.Close {
		t.Errorf("%s %q", a.Status, a.body)
	}
	if got := a.Header["X-A"]; !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("X-A: %q", got)
	}
	if got := a.Header["Set-Cookie"]; !slices.Equal(got, []string{"a=1; Path=/", "b=2"}) {
		t.Errorf("Set-Cookie: %q", got)
	}
	if a.Header.Get("X-Hop") != "" || a.Header.Get("Keep-Alive") != "" || a.Header.Get("Server") != "theirs" {
		t.Errorf("%v", a.Header)
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	g := start(t, settings{native: true, urls: answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", nil)})
	c := dialRaw(t, g.addr)
	for range 2 { // the connection and the upstream's serve on
		c.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
		if a := c.response("HEAD"); a.StatusCode != 200 || a.ContentLength != 12345 || a.body != "" {
			t.Errorf("%s, %d bytes, %q", a.Status, a.ContentLength, a.body)
		}
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	t.Parallel()
	g := start(t, settings{})
	c := dialRaw(t, g.addr)
	var all strings.Builder
	for i := range 20 {
		body := fmt.Sprintf("body %d", i)
		fmt.Fprintf(&all, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	c.send(all.String())
	for i := range 20 {
		if a := c.response("POST"); a.body != fmt.Sprintf("body %d", i) {
			t.Errorf("%d: %q", i, a.body)
		}
	}
}

func TestUpstreamConnectionsAreKept(t *testing.T) {
	t.Parallel()
	accepted := make(chan struct{}, 100)
	g := start(t, settings{native: true, urls: backend(t, func(c *raw) {
		accepted <- struct{}{}
		for c.request() != "" {
			c.send(ok)
		}
	})})
	for range 20 { // each from a client connection of its own
		if a := g.get("/"); a.body != "ok" {
			t.Errorf("%q", a.body)
		}
	}
	if n := len(accepted); n > runtime.NumCPU() { // one for each of its loops, at most
		t.Errorf("%d connections for 20 requests one after another", n)
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	upstream := func(name string) string {
		url := answering(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(name), name), nil)
		return "[upstream." + name + "]\nurls = [\"" + url + "\"]\n"
	}
	route := func(host, path, name string) string {
		return fmt.Sprintf("[[route]]\nname = %q\nhost = %q\npath = %q\nupstream = %q\n", host+path, host, path, name)
	}
	g := start(t, settings{native: true, route: `host = "nobody.example"`, rest: upstream("a") + upstream("b") + upstream("c") + upstream("d") +
		route("app.example.com", "/", "a") + route("app.example.com", "/api", "b") + route("app.example.com", "/api/v2", "c") + route("*.example.com", "/", "d")})
	for _, c := range []struct{ host, target, want string }{
		{"app.example.com", "/", "a"},
		{"APP.example.com:8080", "/x", "a"},
		{"app.example.com", "/apis", "a"},
		{"app.example.com", "/api", "b"},
		{"app.example.com", "/api?x=/v2", "b"},
		{"app.example.com", "/api/", "b"},
		{"app.example.com", "/api/v2/x", "c"},
		{"app.example.com", "/api/v22", "b"},
		{"other.example.com", "/api", "d"},
		{"a.b.example.com", "/", "d"},
		{"example.com", "/", "404"},
		{"127.0.0.1", "/", "404"},
	} {
		conn := dialRaw(t, g.addr)
		conn.send("GET " + c.target + " HTTP/1.1\r\nHost: " + c.host + "\r\n\r\n")
		a := conn.response("GET")
		if c.want == "404" {
			if p := decodeProblem(t, a.body); a.StatusCode != 404 || p.Code != "no_route" || p.Retryable || a.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s%s: %s %s", c.host, c.target, a.Status, a.body)
			}
		} else if a.body != c.want {
			t.Errorf("%s%s: %q, want %q", c.host, c.target, a.body, c.want)
		}
	}
}

func TestFaultsOverHTTP(t *testing.T) {
	t.Parallel()
	silent := backend(t, func(c *raw) { _, _ = io.Copy(io.Discard, c.br) })
	for _, c := range []struct {
		name     string
		settings settings
		status   int
		code     string
	}{
		{"nobody listens", settings{urls: "http://" + freeAddr(t)}, 502, "upstream_unavailable"},
		{"no answer", settings{urls: silent, upstream: `response_timeout = "200ms"`}, 504, "upstream_timeout"},
		{"closed without an answer", settings{urls: backend(t, func(c *raw) { c.request() })}, 502, "upstream_closed"},
		{"half a head", settings{urls: backend(t, func(c *raw) { c.request(); c.send("HTTP/1.1 200 OK\r\nX-") })}, 502, "upstream_closed"},
		{"no HTTP", settings{urls: backend(t, func(c *raw) { c.request(); c.send("220 mail.example ESMTP\r\n\r\n") })}, 502, "upstream_closed"},
		{"no route", settings{route: `path = "/elsewhere"`}, 404, "no_route"},
	} {
		for _, native := range []bool{true, false} {
			c.settings.native = native
			g := start(t, c.settings)
			client := dialRaw(t, g.addr)
			client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: r-1\r\nTraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n")
			a := client.response("GET")
			p := decodeProblem(t, a.body)
			if a.StatusCode != c.status || p.Status != c.status || p.Code != c.code || p.Type != "about:blank" || p.Title == "" || p.Detail == "" || p.Retryable != (c.status > 404) {
				t.Errorf("%s: %s %s", c.name, a.Status, a.body)
			}
			if p.TraceID != "4bf92f3577b34da6a3ce929d0e0e4736" || a.Header.Get("X-Request-Id") != "r-1" || a.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: %v %s", c.name, a.Header, a.body)
			}
			if n := g.metric(`weir_faults_total{code="` + c.code + `"}`); n != 1 {
				t.Errorf("%s: counted %v", c.name, n)
			}
			// The connection serves on.
			client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
			if a := client.response("HEAD"); a.StatusCode != c.status || a.body != "" {
				t.Errorf("%s: HEAD: %s", c.name, a.Status)
			}
		}
	}
}
