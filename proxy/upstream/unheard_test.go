package upstream

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"weir/proxy/config"
	"weir/proxy/faultlog"
)

// What stands before a backend that is gone may take connections for it, and close them.
func TestTheNextTargetIsTriedWhereOneEndsWithoutAByte(t *testing.T) {
	anyKind := func(Kind) bool { return true }
	f := func(name, method, body string, says string, may func(Kind) bool, want string) {
		t.Run(name, func(t *testing.T) {
			silent := backend(t, func(p *peer) {
				if p.head(); says == "" {
					_ = p.nc.SetLinger(0)
				}
				p.send(says)
			})
			u := to(t, config.Upstream{Retries: 1}, silent, counting(t))
			var log bytes.Buffer
			u.faults = faultlog.New(slog.New(slog.NewTextHandler(&log, nil)))
			defer u.faults.Close()
			r := request("/", nil)
			if body != "" {
				r = request("/", strings.NewReader(body))
			}
			r.Method, r.Retryable = []byte(method), may
			if want != "" {
				expectFetch(t, u, r, want)
			} else {
				expectKind(t, u, r, Closed)
			}
			if told := strings.Contains(log.String(), "another is tried") && strings.Contains(log.String(), "url="+silent); told != (want != "") {
				t.Errorf("the log has %q", log.String())
			}
			if s := u.Status()[0]; !s.Healthy || s.InUse != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
	f("GET", "GET", "", "", anyKind, "1")
	f("DELETE", "DELETE", "", "", anyKind, "1")
	f("POST", "POST", "", "", anyKind, "")
	f("a body", "PUT", "hi", "", anyKind, "")
	f("a byte", "GET", "", "H", anyKind, "")
	f("an interim answer", "GET", "", "HTTP/1.1 103 Early Hints\r\n\r\n", anyKind, "")
	f("not as the policy has it", "GET", "", "", func(k Kind) bool { return k != Closed }, "")
	f("not asked", "GET", "", "", nil, "")
	t.Run("a kept one, then a fresh one", func(t *testing.T) {
		once := backend(t, func(p *peer) {
			if p.head(); p.n == 1 {
				p.answer("first")
				p.head()
			}
		})
		u := to(t, config.Upstream{Retries: 1}, once, counting(t))
		for _, want := range []string{"first", "1", "1"} {
			r := request("/", nil)
			r.Retryable = anyKind
			expectFetch(t, u, r, want)
		}
	})
}

// One that ends without an answer is not put aside. Were its turn and that of who is tried
// in its place two of the same count, every request would meet it first.
func TestWhoIsTriedInsteadTakesNobodysTurn(t *testing.T) {
	for _, others := range []int{1, 2} {
		met := make(chan bool, 100)
		urls := []string{backend(t, func(p *peer) {
			p.head()
			met <- true
		})}
		for range others {
			urls = append(urls, counting(t))
		}
		u := to(t, config.Upstream{Retries: 1}, urls...)
		const each = 4
		for range each * len(urls) {
			r := request("/", nil)
			r.Retryable = func(Kind) bool { return true }
			if _, err := fetch(u, r); err != nil {
				t.Error(err)
			}
		}
		if len(met) != each {
			t.Errorf("one of %d targets had %d of %d turns", len(urls), len(met), each*len(urls))
		}
	}
}
