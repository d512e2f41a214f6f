package upstream

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"weir/proxy/config"
	"weir/proxy/http1"
	"weir/proxy/nettest"
)

// inPlaceOf makes an Upstream with other targets than before has.
func inPlaceOf(t testing.TB, before *Upstream, cfg config.Upstream, urls ...string) *Upstream {
	t.Helper()
	cfg.Name, cfg.URLs = before.name, urls
	u, err := New(&cfg, Options{Before: before})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	u.Watch()
	return u
}

// counting answers with the number of the connection.
func counting(t testing.TB) string {
	return backend(t, func(p *peer) {
		for p.head() != "" {
			p.answer(fmt.Sprint(p.n))
		}
	})
}

func TestATargetThatStaysIsTheSame(t *testing.T) {
	stays, other, down := counting(t), counting(t), refusing(t)
	cfg := config.Upstream{Balance: "least_connections"}
	before := to(t, cfg, stays, down)
	before.targets[1].connectFailed(time.Now(), time.Now())
	expectFetch(t, before, request("/", nil), "1")
	var resp http1.Response
	e, err := before.Do(request("/", nil), &resp) // on that connection
	if err != nil {
		t.Fatal(err)
	}

	u := inPlaceOf(t, before, cfg, stays, down, other)
	before.Close()
	for range 3 { // it has one connection less in use
		expectFetch(t, u, request("/", nil), "1")
	}
	if s := u.Status(); s[0].InUse != 1 || s[0].Idle != 0 || s[1].Healthy || s[2].Idle != 1 {
		t.Errorf("%+v", s)
	}
	e.Finish(false)
	u = inPlaceOf(t, u, cfg, stays)
	expectFetch(t, u, request("/", nil), "2")
	expectFetch(t, u, request("/", nil), "2")
	if s := u.Status(); s[0].InUse != 0 || s[0].Idle != 1 {
		t.Errorf("%+v", s)
	}
}

// The last of the Upstreams that have a target closes its connections.
func TestATargetThatStaysGoesWithItsLast(t *testing.T) {
	ended := make(chan error, 1)
	url := backend(t, func(p *peer) {
		p.head()
		p.send("HTTP/1.1 204 No Content\r\n\r\n")
		ended <- p.ended()
	})
	before := to(t, config.Upstream{}, url)
	expectFetch(t, before, request("/", nil), "")
	u := inPlaceOf(t, before, config.Upstream{}, url)
	if _, err := New(&config.Upstream{URLs: []string{url, "ftp://no"}}, Options{Before: u}); err == nil {
		t.Error("ftp is a target")
	}
	before.Close()
	if s := u.Status(); s[0].Idle != 1 {
		t.Errorf("%+v", s)
	}
	u.Close()
	u.Close()
	if err := nettest.Within(t, ended, "the end of the connection"); err != nil {
		t.Error(err)
	}
}

func TestHealthIsKnownOfTheSamePath(t *testing.T) {
	asked := make(chan string, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(503)
		asked <- r.RequestURI
	}))
	t.Cleanup(s.Close)
	before := to(t, config.Upstream{HealthPath: "/a"}, s.URL)
	nettest.Within(t, asked, "a check")
	before.Close() // joins it
	before.targets[0].unhealthy.Store(true)
	for path, healthy := range map[string]bool{"/a": false, "/b": true} {
		u := inPlaceOf(t, before, config.Upstream{HealthPath: path}, s.URL)
		if got := nettest.Within(t, asked, "a check"); got != path {
			t.Error(got)
		}
		u.Close()
		if got := u.Status()[0].Healthy; got != healthy { // after one that failed
			t.Errorf("%q: healthy %t", path, got)
		}
	}
}
