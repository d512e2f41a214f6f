package gateway

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"weir/proxy/metrics"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// panics waits until n panics in a place have been logged, each with its stack.
func (r *rig) panics(in metrics.Place, n int, where string) {
	r.t.Helper()
	until(r.t, "a panic in "+in.String(), func() bool {
		lines := 0
		for line := range strings.Lines(r.logs.String()) {
			if strings.Contains(line, `"msg":"panic","in":"`+in.String()+`"`) && strings.Contains(line, where) {
				lines++
			}
		}
		return lines == n
	})
}

// counted holds that as many have been counted.
func (r *rig) counted(in metrics.Place, n float64) {
	r.t.Helper()
	families, err := r.g.metrics.Registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "weir_panics_total" && m.GetLabel()[0].GetValue() == in.String() && m.GetCounter().GetValue() != n {
				r.t.Errorf("%v panics are counted in %s, want %v", m.GetCounter().GetValue(), in, n)
			}
		}
	}
}

// A bug in a reload is a reload that failed: the running configuration stays,
// what was built beside it is given back, and the next one works.
func TestAPanicInAReloadKeepsWhatRuns(t *testing.T) {
	r := start(t, policyRoute(`"a"`, ""))
	c := r.ws("/ws")
	was := r.g.current.Load()
	refs := was.upstreams["demo"].refs
	was.upstreams["demo"].refs = nil // whoever would share it panics
	r.write(policyRoute(`"a"`, "[limits]\nmax_inbox = 7\n"))
	if err := r.g.Reload(); err == nil || err.Error() != errPanicked.Error() {
		t.Fatalf("got %v", err)
	}
	if err := echo(t.Context(), c, `{"type":"a"}`); err != nil || r.g.current.Load() != was {
		t.Errorf("the tunnel: %v, generation %d", err, r.g.current.Load().number)
	}
	failed := func() int { return strings.Count(r.logs.String(), "reload failed") }
	until(t, "the watcher's reload too", func() bool { return failed() >= 2 })
	func() {
		r.g.reloading.Lock() // the watcher may see one change as two
		defer r.g.reloading.Unlock()
		if got := was.policies["p"].refs.Load(); got != 1 {
			t.Errorf("%d hold the policy", got)
		}
		r.panics(metrics.InReload, failed(), "(*generation).addUpstream")
		r.counted(metrics.InReload, float64(failed()))
		was.upstreams["demo"].refs = refs
	}()
	if err := r.g.Reload(); err != nil || r.g.current.Load().number != 2 {
		t.Errorf("the next reload: %v", err)
	}
	if err := echo(t.Context(), c, `{"type":"a"}`); err != nil {
		t.Error(err)
	}
}

// A bug in one of the process's services ends its turn, not the service.
func TestServicesSurviveAPanic(t *testing.T) {
	r := start(t, policyRoute(`"a"`, ""))
	c := r.ws("/ws")

	// Shedding meets a tunnel that is none.
	r.g.mu.Lock()
	r.g.tunnels["broken"] = nil
	r.g.mu.Unlock()
	defer r.g.mend()
	r.g.askForShedding()
	r.panics(metrics.InGateway, 1, "(*Gateway).shedAll")
	r.g.askForShedding()
	r.panics(metrics.InGateway, 2, "(*Gateway).shedAll")

	// So does a request to the admin listener.
	h := &adminHandler{g: r.g}
	h.use("")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1/connections", nil))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "goroutine") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	r.panics(metrics.InAdmin, 1, "(*Gateway).open")
	r.g.mend()

	// An old generation has a part that cannot be closed: the others are.
	old := r.g.current.Load()
	p := old.policies["p"].part
	old.upstreams["demo"].part = nil
	r.write(strings.ReplaceAll(policyRoute(`"b"`, ""), "[upstream.demo]", "[upstream.demo]\nretries = 3"))
	if err := r.g.Reload(); err != nil {
		t.Fatal(err)
	}
	r.panics(metrics.InGateway, 1, "(*shared[")
	r.counted(metrics.InGateway, 3)
	r.counted(metrics.InAdmin, 1)
	until(t, "the old policy is closed", func() bool { return p.Info().Instances == 0 })
	if err := echo(t.Context(), c, `{"type":"a"}`); err != nil {
		t.Error(err)
	}
}

func (c *clients) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

func (g *Gateway) mend() {
	g.mu.Lock()
	delete(g.tunnels, "broken")
	g.mu.Unlock()
}

// A panic between a handshake and its tunnel leaves nothing behind of either.
func TestAPanicBeforeATunnelEndsBothLegs(t *testing.T) {
	r := start(t, plainRoute)
	r.logs.on("upgraded", func() { panic("at the disco") })
	const times = 3
	for range times {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if _, _, err := r.ws("/ws").Read(ctx); err == nil || ctx.Err() != nil {
			t.Fatalf("the client's leg: %v", err)
		}
		cancel()
	}
	r.logs.on("", func() {})
	r.panics(metrics.InRequest, times, "(*handshake).run")
	r.counted(metrics.InRequest, times)
	for _, s := range []metrics.State{metrics.StateHTTP, metrics.StateHandshake, metrics.StateOpen} {
		until(t, "no connection is counted as "+s.String(), func() bool { return testutil.ToFloat64(r.g.metrics.Connections(s)) == 0 })
	}
	r.g.mu.Lock()
	route := r.g.routes["demo"].clients
	r.g.mu.Unlock()
	until(t, "nothing is in use", func() bool {
		gen := r.g.current.Load()
		return gen.upstreams["demo"].part.Status()[0].InUse == 0 && route.count() == 0 && r.g.clients.count() == 0 && gen.using.sum() == 0
	})
	c := r.ws("/ws")
	if err := echo(t.Context(), c, "the next one"); err != nil {
		t.Error(err)
	}
}

// A panic in a request, which a loop serves with many others, ends its
// connection; what lives on the same loops goes on, and is counted rightly.
func TestAPanicInARequestEndsItsConnection(t *testing.T) {
	r := start(t, plainRoute+"[[route]]\nname = \"broken\"\npath = \"/broken\"\nupstream = \"demo\"\n")
	c := r.ws("/ws")
	for _, rt := range r.g.current.Load().router.any.routes {
		if rt.Name == "broken" {
			rt.Upstream = nil
		}
	}
	once := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // tries nothing again
	const times = 10
	for range times {
		resp, err := once.Get(r.base + "/broken")
		if err == nil {
			resp.Body.Close()
			t.Errorf("answered with %s", resp.Status)
		}
		if err := echo(t.Context(), c, "still there"); err != nil {
			t.Fatal(err)
		}
		if status, _ := r.get("/status/204"); status != http.StatusNoContent {
			t.Errorf("another request: %d", status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	r.panics(metrics.InRequest, times, "(*Gateway).serve")
	r.counted(metrics.InRequest, times)
	r.g.mu.Lock()
	broken := r.g.routes["broken"]
	r.g.mu.Unlock()
	until(t, "no request is counted in the route, or holds the generation", func() bool {
		return broken.clients.count() == 0 && r.g.current.Load().using.sum() == 0
	})
}
