package upstream

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"weir/proxy/config"
	"weir/proxy/http1"
	"weir/proxy/nettest"
)

func TestMalformedAnswers(t *testing.T) {
	f := func(name, answer string, kind Kind) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			u := to(t, config.Upstream{}, backend(t, func(p *peer) {
				p.head()
				p.send(answer)
				_ = p.nc.CloseWrite()
				_ = p.ended()
			}))
			expectKind(t, u, request("/", nil), kind)
			if s := u.Status(); s[0].Idle != 0 || s[0].InUse != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
	f("nothing", "", Closed)
	f("half a head", "HTTP/1.1 200 OK\r\nContent-Le", Closed)
	f("no HTTP", "SSH-2.0-OpenSSH\r\n\r\n", Protocol)
	f("length and coding", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", Protocol)
	f("head too long", "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", maxHead)+"\r\n\r\n", Protocol)
	f("endless head", "HTTP/1.1 200 OK\r\n"+strings.Repeat("X: y\r\n", 10000), Protocol)
	f("endless interim answers", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 100), Protocol)
	f("101 unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", Protocol)
}

func TestTruncatedBodiesAreErrors(t *testing.T) {
	for name, answer := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
		"chunk":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell",
		"chunks":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"trailer": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			u := to(t, config.Upstream{}, backend(t, func(p *peer) {
				p.head()
				p.send(answer)
			}))
			if _, err := fetch(u, request("/", nil)); err != io.ErrUnexpectedEOF {
				t.Error(err)
			}
			if s := u.Status(); s[0].Idle != 0 || s[0].InUse != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestInterimAnswers(t *testing.T) {
	f := func(interim string, told []int, idle int) {
		t.Helper()
		u := to(t, config.Upstream{}, backend(t, func(p *peer) {
			for p.head() != "" {
				p.send(interim)
				p.answer("hi")
			}
		}))
		r := request("/", nil)
		var got []int
		var resp http1.Response
		r.Interim = func() error { got = append(got, resp.Status); return nil }
		e, err := u.Do(r, &resp)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = e.Body.Next()
		_, _ = e.Body.Next()
		e.Finish(true)
		if n := u.Status()[0].Idle; !slices.Equal(got, told) || n != idle || resp.Status != 200 {
			t.Errorf("%q: told of %v, want %v; %d connections are kept, want %d", interim, got, told, n, idle)
		}
	}
	f("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n", []int{103, 102}, 1)
	f("HTTP/1.1 100 Continue\r\n\r\n", nil, 1)
	f("HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n", []int{103}, 0)
	f("HTTP/1.1 103 Early Hints\r\nConnection: close\r\n\r\n", []int{103}, 0)
	f(strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", maxInterim), slices.Repeat([]int{102}, maxInterim), 1)
}

func TestAClientThatTakesNoInterimAnswerHasGone(t *testing.T) {
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		p.head()
		p.send("HTTP/1.1 103 Early Hints\r\n\r\n")
		p.head()
	}))
	r := request("/", nil)
	r.Interim = func() error { return errors.New("gone") }
	expectKind(t, u, r, Canceled)
	if s := u.Status(); s[0].Idle != 0 || s[0].InUse != 0 {
		t.Errorf("%+v", s)
	}
}

func TestInterimAnswersAreSkipped(t *testing.T) {
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		for p.head() != "" {
			p.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
			p.answer("hi")
		}
	}))
	expectFetch(t, u, request("/", nil), "hi")
	expectFetch(t, u, request("/", nil), "hi")
}

func TestAnswersWithoutBodyKeepTheConnection(t *testing.T) {
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		for h := p.head(); h != ""; h = p.head() {
			if strings.HasPrefix(h, "HEAD") {
				p.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
			} else {
				p.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n")
			}
		}
	}))
	for _, method := range []string{"HEAD", "GET", "HEAD"} {
		r := request("/", nil)
		r.Method = []byte(method)
		expectFetch(t, u, r, "")
	}
	if s := u.Status(); s[0].Idle != 1 {
		t.Errorf("%+v", s)
	}
}

// It would be taken for the next answer.
func TestABodyBehindAnAnswerWithoutOneEndsTheConnection(t *testing.T) {
	kept, said := make(chan struct{}), make(chan struct{})
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		p.head()
		p.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
		nettest.Within(t, kept, "the end of the exchange")
		p.send("hello")
		close(said)
		_ = p.ended()
	}))
	r := request("/", nil)
	r.Method = []byte("HEAD")
	expectFetch(t, u, r, "")
	close(kept)
	nettest.Within(t, said, "the body")
	s := &u.targets[0].shelves[0]
	if c := s.take(s.idle[0].idleSince, true); c != nil {
		_ = c.nc.Close()
		t.Error("it is used again")
	}
}
