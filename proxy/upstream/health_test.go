package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"weir/proxy/config"
	"weir/proxy/nettest"
)

// A server that we did not write, over TLS.
func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Proto, r.TLS.ServerName, b)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of the client that refuses its certificate
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	// The certificate is for example.com; the name is checked.
	cfg := config.Upstream{Name: "tls", URLs: []string{s.URL}}
	u, err := New(&cfg, Options{TLS: &tls.Config{RootCAs: roots}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	u.targets[0].tls.ServerName = "example.com"
	for range 2 {
		expectFetch(t, u, request("/", nil), "HTTP/1.1 example.com ")
		expectFetch(t, u, request("/", newReader("hi")), "HTTP/1.1 example.com hi")
	}
	if s := u.Status(); s[0].Idle != 1 {
		t.Errorf("%+v", s)
	}
	expectKind(t, to(t, config.Upstream{}, s.URL), request("/", nil), Unavailable)
}

func newReader(s string) io.Reader { return http1Reader(s) }

func TestHealthChecks(t *testing.T) {
	var failing atomic.Bool
	asked := make(chan string, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if failing.Load() {
			w.WriteHeader(503)
		}
		asked <- r.Method + " " + r.RequestURI
	}))
	t.Cleanup(s.Close)
	cfg := config.Upstream{Name: "checked", URLs: []string{s.URL}, HealthPath: "/health?x"}
	u, err := New(&cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	u.Watch()
	if got := nettest.Within(t, asked, "a check"); got != "GET /health?x" {
		t.Error(got)
	}
	u.Close() // joins the check
	failing.Store(true)
	if err := u.check(u.targets[0], "/health"); err == nil {
		t.Error("503 is healthy")
	}
}

// Two of a target are asked beside one another while a reload takes over: the newer
// one's first failure heals nobody that the other has found down.
func TestOneFailureHealsNobody(t *testing.T) {
	var tg target
	var older, newer int
	down := errors.New("down")
	for i, c := range []struct {
		err     error
		fails   *int
		changed bool
	}{{down, &older, false}, {down, &older, true}, {down, &newer, false}, {down, &newer, false}, {nil, &newer, true}} {
		if tg.checked(c.err, c.fails) != c.changed || tg.unhealthy.Load() != (i > 0 && c.err != nil) {
			t.Errorf("check %d: unhealthy %t", i, tg.unhealthy.Load())
		}
	}
}

func TestBackoffGrowsAndIsForgotten(t *testing.T) {
	tg := &target{}
	now := time.Unix(1000, 0)
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		if first := tg.connectFailed(now, now); first != (i == 0) {
			t.Errorf("failure %d: first=%v", i, first)
		}
		for range 10 { // of exchanges at the same time
			if tg.connectFailed(now.Add(want*time.Second-1), now.Add(want*time.Second-1)) {
				t.Errorf("failure %d is told again", i)
			}
		}
		until := now.Add(want * time.Second)
		if tg.usable(until.Add(-1)) || !tg.usable(until) {
			t.Errorf("failure %d is not over after %d s", i, want)
		}
		now = until
	}
	tg.connectFailed(time.Now(), time.Now())
	if until := *tg.downUntil.Load(); until == until.Round(0) {
		t.Error("when it is over depends on the wall clock, which may be set back")
	}
	tg.connected()
	if !tg.usable(now) {
		t.Error("still down")
	}
	if !tg.connectFailed(now, now) || !tg.usable(now.Add(minBackoff)) {
		t.Error("failures from before it worked count")
	}
}

// Those that had begun when it was put aside come to their end one after the other for
// connect_timeout: they would else have it aside for longer each time, and have others
// try it beside the one that does.
func TestWhatHadBegunBeforePutsNobodyAsideAgain(t *testing.T) {
	u := to(t, config.Upstream{}, refusing(t), refusing(t))
	tg, now := u.targets[0], time.Now()
	tg.connectFailed(now, now.Add(5*time.Second))
	now = now.Add(7 * time.Second)
	if !tg.picked(now, time.Minute) {
		t.Fatal("nobody tries")
	}
	if tg.connectFailed(now.Add(-3*time.Second), now) || !tg.unproven(now) || tg.picked(now, time.Minute) {
		t.Error("put aside, or tried by two")
	}
	if tg.connectFailed(now, now.Add(time.Second)); tg.unproven(now.Add(2 * time.Second)) {
		t.Error("the one that tried did not put it aside")
	}
}
