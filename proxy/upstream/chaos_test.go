package upstream

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/proxy/config"
	"weir/proxy/http1"
)

// A reset after any number of bytes is an error or the whole answer, never a
// part that looks like the whole.
func TestResetAtEveryOffset(t *testing.T) {
	for name, answer := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
	} {
		for _, reset := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, reset=%v", name, reset), func(t *testing.T) {
				u := to(t, config.Upstream{}, backend(t, func(p *peer) {
					p.head()
					p.send(answer[:p.n-1])
					if reset {
						_ = p.nc.SetLinger(0)
					}
				}))
				for n := range len(answer) + 1 {
					got, err := fetch(u, request("/", nil))
					if err == nil && got != "hello" {
						t.Fatalf("%d bytes: %q without an error", n, got)
					}
					if n == len(answer) && !reset && err != nil {
						t.Fatalf("the whole answer: %v", err)
					}
					if n < len(answer) && err == nil {
						t.Fatalf("%d of %d bytes were enough", n, len(answer))
					}
				}
				if s := u.Status(); s[0].InUse != 0 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// forward is the smallest proxy: what proxy/stream does, without its manners.
func forward(u *Upstream) func(x *http1.Exchange) {
	return func(x *http1.Exchange) {
		r := &Request{Method: x.Req.Method, Target: x.Req.Target, Host: x.Req.Host, ContentLength: x.Info.ContentLength, Watch: x.Watch}
		if x.Body != nil {
			r.Body = x.Body
		}
		e, err := u.Do(r, &x.Resp)
		if err != nil {
			x.Resp.Reset()
			_ = x.Respond(502, "text/plain", []byte(err.Error()))
			return
		}
		_ = x.Start(e.Info.ContentLength)
		for e.Body != nil {
			p, err := e.Body.Next()
			if _, werr := x.Write(p); werr != nil || err != nil && err != io.EOF {
				x.Abort()
				e.Finish(false)
				return
			}
			if err == io.EOF {
				x.Trailer = append(x.Trailer, e.Body.Trailer()...)
				break
			}
			if e.Body.Buffered() == 0 {
				_ = x.Flush()
			}
		}
		e.Finish(true)
		_ = x.Finish()
	}
}

// Many clients at once, some of which leave early, through a proxy to a backend
// that sometimes closes: every answer that is whole is the right one, and in
// the end nothing is left.
func TestHammer(t *testing.T) {
	origin := serve(t, &http1.Server{Handler: func(x *http1.Exchange) {
		if rand.IntN(20) == 0 {
			x.CloseAfter()
		}
		switch {
		case strings.HasSuffix(string(x.Req.Target), "/early"):
			_ = x.Respond(413, "text/plain", []byte("no"))
		case x.Body == nil:
			_ = x.Respond(200, "text/plain", x.Req.Target)
		default:
			_ = x.Start(x.Info.ContentLength)
			if _, err := io.Copy(onlyWriter{x}, x.Body); err != nil {
				x.Abort()
				return
			}
			_ = x.Finish()
		}
	}})
	u := to(t, config.Upstream{}, origin)
	proxy := &http1.Server{Handler: forward(u)}
	target, _ := url.Parse(serve(t, proxy))

	var clients sync.WaitGroup
	for id := range 8 {
		clients.Go(func() {
			h := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: patience}
			defer h.CloseIdleConnections()
			rng := rand.New(rand.NewPCG(1, uint64(id)))
			for n := range 60 {
				path := fmt.Sprintf("/%d/%d", id, n)
				body := bytes.Repeat([]byte{byte('a' + n%26)}, rng.IntN(100<<10))
				switch rng.IntN(4) {
				case 0:
					check(t, h, "GET", target.JoinPath(path), nil, path)
				case 1:
					check(t, h, "PUT", target.JoinPath(path), bytes.NewReader(body), string(body))
				case 2:
					check(t, h, "POST", target.JoinPath(path), io.MultiReader(bytes.NewReader(body)), string(body))
				case 3:
					leave(t, target.Host, path, rng)
				}
			}
		})
	}
	clients.Wait()
	proxy.Drain()
	if err := proxy.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if s := u.Status(); s[0].InUse != 0 {
		t.Errorf("%+v", s)
	}
}

// check asks through a client that we did not write and wants the right answer.
func check(t *testing.T, h *http.Client, method string, to *url.URL, body io.Reader, want string) {
	r, _ := http.NewRequest(method, to.String(), body)
	resp, err := h.Do(r)
	if err != nil {
		t.Errorf("%s %s: %v", method, to, err)
		return
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		t.Errorf("%s %s: %v", method, to, err)
	case resp.StatusCode == 502 && method == "POST":
		// Its connection was closed under it; it may not be sent twice.
	case resp.StatusCode != 200 || string(got) != want:
		t.Errorf("%s %s: %d, %d bytes, want %d", method, to, resp.StatusCode, len(got), len(want))
	}
}

// leave sends part of a request and goes, or takes an early refusal.
func leave(t *testing.T, addr, path string, rng *rand.Rand) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience))
	request := "POST " + path + "/early HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n" + strings.Repeat("x", 50000)
	cut := rng.IntN(len(request))
	if _, err := nc.Write([]byte(request[:cut])); err != nil {
		return // refused already, and gone
	}
	if cut < 100 {
		return
	}
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Errorf("after %d bytes: %v", cut, err)
		return
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 413 && resp.StatusCode != 502 {
		t.Errorf("after %d bytes: %s", cut, resp.Status)
	}
}
