package upstream

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"weir/proxy/config"
	"weir/proxy/http1"
	"weir/proxy/nettest"
)

func TestConnectionsAreKept(t *testing.T) {
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		for p.head() != "" {
			p.answer(string(rune('0' + p.n)))
		}
	}))
	for range 3 {
		expectFetch(t, u, request("/", nil), "1")
	}
	if s := u.Status(); s[0].Idle != 1 || s[0].InUse != 0 || !s[0].Healthy {
		t.Errorf("%+v", s)
	}
}

func TestConnectionsThatCannotBeKept(t *testing.T) {
	for name, answer := range map[string]string{
		"close":                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
		"HTTP/1.0":             "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
		"more than the answer": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi!",
	} {
		t.Run(name, func(t *testing.T) {
			u := to(t, config.Upstream{}, backend(t, func(p *peer) {
				p.head()
				p.send(answer)
				_ = p.ended()
			}))
			expectFetch(t, u, request("/", nil), "hi")
			if s := u.Status(); s[0].Idle != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestHeadIsSentWithItsFramingMadeAnew(t *testing.T) {
	heads := make(chan string, 1)
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		for {
			h := p.head()
			if h == "" {
				return
			}
			heads <- h
			if strings.Contains(h, "chunked") {
				p.expect("2\r\nhi\r\n0\r\n\r\n")
			} else if strings.Contains(h, "Length: 2") {
				p.expect("hi")
			}
			p.answer("")
		}
	}))
	f := func(method, lines, body string, length int64, want string) {
		t.Helper()
		r := &Request{Method: []byte(method), Target: []byte("/a?b"), Host: []byte("a"), Lines: []byte(lines)}
		if body != "" {
			r.Body, r.ContentLength = strings.NewReader(body), length
		}
		expectFetch(t, u, r, "")
		if got := nettest.Within(t, heads, "the request"); got != method+" /a?b HTTP/1.1\r\nHost: a\r\n"+want+"\r\n" {
			t.Errorf("\n got %q\nwant %q", got, want)
		}
	}
	const lines = "b: 2\r\nA: 1\r\nb: 1\r\n"
	f("GET", "", "", 0, "")
	f("GET", lines, "", 0, lines)
	f("DELETE", lines, "", 0, lines)
	f("POST", lines, "", 0, "Content-Length: 0\r\n"+lines)
	f("POST", lines, "hi", 2, "Content-Length: 2\r\n"+lines)
	f("POST", lines, "hi", -1, "Transfer-Encoding: chunked\r\n"+lines)
}

// A Host that is empty is refused by many; each target gets its own.
func TestARequestWithoutHostGetsTheTargets(t *testing.T) {
	heads := make(chan string, 1)
	url := backend(t, func(p *peer) {
		heads <- p.head()
		p.expect("hi")
		p.answer("")
	})
	u := to(t, config.Upstream{Retries: 1}, refusing(t), url)
	r := &Request{
		Method: []byte("POST"), Target: []byte("/a"), Lines: []byte("b: 1\r\n"),
		Body: buffered{strings.NewReader("hi"), 2}, ContentLength: 2, Retryable: func(Kind) bool { return true },
	}
	expectFetch(t, u, r, "")
	want := "POST /a HTTP/1.1\r\nHost: " + strings.TrimPrefix(url, "http://") + "\r\nContent-Length: 2\r\nb: 1\r\n\r\n"
	if got := nettest.Within(t, heads, "the request"); got != want {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
}

func TestStaleConnections(t *testing.T) {
	t.Run("closed while idle: not used again", func(t *testing.T) {
		closed := make(chan struct{})
		u := to(t, config.Upstream{}, backend(t, func(p *peer) {
			p.head()
			p.answer(string(rune('0' + p.n)))
			_ = p.nc.Close()
			if p.n == 1 {
				close(closed)
			}
		}))
		expectFetch(t, u, request("/", nil), "1")
		nettest.Within(t, closed, "the close")
		expectFetch(t, u, request("/", nil), "2")
	})
	// The peer closes when it sees the second request: no check could know.
	stale := func(t *testing.T) *Upstream {
		u := to(t, config.Upstream{}, backend(t, func(p *peer) {
			if p.n == 1 {
				p.head()
				p.answer("1")
				p.head()
				_ = p.nc.SetLinger(0)
				return
			}
			for p.head() != "" {
				p.answer("2")
			}
		}))
		expectFetch(t, u, request("/", nil), "1")
		return u
	}
	t.Run("closed at the request: idempotent is tried again", func(t *testing.T) {
		expectFetch(t, stale(t), request("/", nil), "2")
	})
	t.Run("closed within its answer: nothing is", func(t *testing.T) {
		u := to(t, config.Upstream{}, backend(t, func(p *peer) {
			p.head()
			p.answer("1")
			p.head()
			p.send("HTTP/1.1 2")
		}))
		expectFetch(t, u, request("/", nil), "1")
		expectKind(t, u, request("/", nil), Closed)
	})
	t.Run("closed at the request: POST is not", func(t *testing.T) {
		u := stale(t)
		r := request("/", nil)
		r.Method = []byte("POST")
		expectKind(t, u, r, Closed)
	})
	t.Run("closed at the request: a body is not", func(t *testing.T) {
		u := stale(t)
		r := request("/", strings.NewReader("hi"))
		r.Method = []byte("PUT")
		expectKind(t, u, r, Closed)
	})
	t.Run("a fresh connection that closes is not tried again", func(t *testing.T) {
		u := to(t, config.Upstream{}, backend(t, func(p *peer) { p.head() }))
		expectKind(t, u, request("/", nil), Closed)
	})
}

func TestConnectFailures(t *testing.T) {
	ok := backend(t, func(p *peer) {
		for p.head() != "" {
			p.answer("ok")
		}
	})
	t.Run("the next target is tried when it may be", func(t *testing.T) {
		u := to(t, config.Upstream{Retries: 1}, refusing(t), ok)
		r := request("/", nil)
		r.Retryable = func(Kind) bool { return true }
		expectFetch(t, u, r, "ok")
		if s := u.Status(); s[0].Healthy || !s[1].Healthy {
			t.Errorf("%+v", s)
		}
		for range 4 { // the one that is down is passed over
			expectFetch(t, u, request("/", nil), "ok")
		}
	})
	t.Run("not when it may not", func(t *testing.T) {
		u := to(t, config.Upstream{Retries: 1}, refusing(t), ok)
		if e := expectKind(t, u, request("/", nil), Unavailable); e.URL != u.targets[0].url {
			t.Error(e)
		}
	})
	t.Run("no more often than retries says", func(t *testing.T) {
		u := to(t, config.Upstream{}, refusing(t), ok)
		r := request("/", nil)
		r.Retryable = func(Kind) bool { return true }
		expectKind(t, u, r, Unavailable)
	})
	t.Run("each target once, however many retries there are", func(t *testing.T) {
		down := []string{refusing(t), refusing(t), refusing(t)}
		for n := 1; n <= len(down); n++ {
			u := to(t, config.Upstream{Retries: 10}, down[:n]...)
			r := request("/", nil)
			asked := 1
			r.Retryable = func(Kind) bool { asked++; return true }
			expectKind(t, u, r, Unavailable)
			if asked != n {
				t.Errorf("%d targets were tried %d times", n, asked)
			}
			for _, s := range u.Status() {
				if s.Healthy {
					t.Errorf("of %d, %s was not tried", n, s.URL)
				}
			}
		}
	})
	t.Run("one that has failed only when there is no other", func(t *testing.T) {
		u := to(t, config.Upstream{}, ok, ok)
		for range 2 {
			for _, tg := range u.targets {
				if got, _ := u.pick([]*target{tg}); got == tg {
					t.Error("it is tried again before the other")
				}
				tg.connectFailed(time.Now(), time.Now()) // all are down the second time
			}
		}
	})
	t.Run("a target that is down is still tried when it is the only one", func(t *testing.T) {
		u := to(t, config.Upstream{}, refusing(t))
		expectKind(t, u, request("/", nil), Unavailable)
		expectKind(t, u, request("/", nil), Unavailable)
	})
}

func TestBalance(t *testing.T) {
	named := func(name string) string {
		return backend(t, func(p *peer) {
			for p.head() != "" {
				p.answer(name)
			}
		})
	}
	a, b := named("a"), named("b")
	u := to(t, config.Upstream{Balance: "round_robin"}, a, b)
	for range 2 {
		expectFetch(t, u, request("/", nil), "a")
		expectFetch(t, u, request("/", nil), "b")
	}
	u = to(t, config.Upstream{Balance: "least_connections"}, a, b)
	var resp http1.Response
	e, err := u.Do(request("/", nil), &resp)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // a has one open
		expectFetch(t, u, request("/", nil), "b")
	}
	e.Finish(false)
}

func TestTimeouts(t *testing.T) {
	silent := backend(t, func(p *peer) { _ = p.ended() })
	t.Run("nothing", func(t *testing.T) {
		expectKind(t, to(t, config.Upstream{ResponseTimeout: 50 * time.Millisecond}, silent), request("/", nil), Timeout)
	})
	t.Run("half a head, of one request", func(t *testing.T) {
		u := to(t, config.Upstream{}, backend(t, func(p *peer) {
			p.head()
			p.send("HTTP/1.1 200 OK\r\nContent-")
			_ = p.ended()
		}))
		r := request("/", nil)
		r.Timeout = 50 * time.Millisecond
		expectKind(t, u, r, Timeout)
	})
	t.Run("longer than the watch waits", func(t *testing.T) {
		u := to(t, config.Upstream{ResponseTimeout: 3 * watchAfter / 2}, silent)
		r := request("/", nil)
		stopped := false
		r.Watch = func(func()) func() { return func() { stopped = true } }
		expectKind(t, u, r, Timeout)
		if !stopped {
			t.Error("the watch was not stopped")
		}
	})
	t.Run("a body that the upstream does not read", func(t *testing.T) {
		u := to(t, config.Upstream{ResponseTimeout: 50 * time.Millisecond}, backend(t, func(p *peer) {
			p.head()
			release := make(chan struct{})
			t.Cleanup(func() { close(release) })
			<-release
		}))
		expectKind(t, u, request("/", endless{}), Timeout)
	})
	t.Run("a client slower than the timeout is no upstream's fault", func(t *testing.T) {
		u := to(t, config.Upstream{ResponseTimeout: 50 * time.Millisecond}, backend(t, func(p *peer) {
			p.head()
			p.expect("2\r\nhi\r\n0\r\n\r\n")
			p.answer("ok")
		}))
		body, w := io.Pipe()
		time.AfterFunc(150*time.Millisecond, func() {
			_, _ = w.Write([]byte("hi"))
			_ = w.Close()
		})
		expectFetch(t, u, request("/", body), "ok")
	})
}

// endless is a body without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestUpgradeIsDetachedWithWhatIsBehindIt(t *testing.T) {
	u := to(t, config.Upstream{Balance: "least_connections"}, backend(t, func(p *peer) {
		if h := p.head(); !strings.Contains(h, "Connection: Upgrade\r\n") {
			t.Errorf("%q", h)
		}
		p.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
		if p.expect("ping") {
			p.send("pong")
		}
		_ = p.ended()
	}))
	r := request("/", nil)
	r.Lines = []byte("Connection: Upgrade\r\nUpgrade: websocket\r\n")
	r.Upgrade = true
	var resp http1.Response
	e, err := u.Do(r, &resp)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Status != 101 || string(resp.Get("upgrade")) != "websocket" {
		t.Errorf("%d %q", resp.Status, resp.Fields())
	}
	d := noted(e)
	nc, early := e.Detach()
	defer nc.Close()
	if d.ahead {
		t.Error("a deadline of the exchange is left")
	}
	if string(early) != "early" {
		t.Errorf("%q", early)
	}
	if s := u.Status(); s[0].InUse != 1 {
		t.Errorf("a tunnel is not counted: %+v", s)
	}
	_, _ = nc.Write([]byte("ping"))
	b := make([]byte, 4)
	if _, err := io.ReadFull(nc, b); string(b) != "pong" {
		t.Errorf("%q %v", b, err)
	}
	e.Finish(false)
	if s := u.Status(); s[0].InUse != 0 {
		t.Errorf("%+v", s)
	}
}

func TestNewRefusesWhatIsNoTarget(t *testing.T) {
	for _, url := range []string{"", "demo:", "ftp://a", "http://", "a:80", "http://a:b"} {
		if _, err := New(&config.Upstream{URLs: []string{url}}, Options{}); err == nil {
			t.Errorf("%q was accepted", url)
		}
	}
	f := func(url, addr string) {
		t.Helper()
		u, err := New(&config.Upstream{URLs: []string{url}}, Options{Demo: func() string { return "127.0.0.1:5" }})
		if err != nil || u.targets[0].addr() != addr {
			t.Errorf("%q: %v", url, err)
		}
	}
	f("demo:", "127.0.0.1:5")
	f("http://a", "a:80")
	f("https://a", "a:443")
	f("https://[::1]:8443/", "[::1]:8443")
	f("http://[::1]", "[::1]:80")
}

func TestErrorsNameTheirCause(t *testing.T) {
	e := error(&Error{Kind: Timeout, URL: "http://a", Err: net.ErrClosed})
	if !errors.Is(e, net.ErrClosed) || !strings.Contains(e.Error(), "timeout") {
		t.Error(e)
	}
	e = &Error{Kind: Canceled, Err: net.ErrClosed, BodyErr: http1.ErrLength}
	if !errors.Is(e, http1.ErrLength) {
		t.Error(e)
	}
}

// longAgo is when a target was put aside whose time is over.
var longAgo = time.Now().Add(-time.Hour)
