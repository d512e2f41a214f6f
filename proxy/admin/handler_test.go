package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"weir/proxy/config"

	"github.com/prometheus/client_golang/prometheus"
)

// fake is a Source whose state the tests set.
type fake struct {
	ready       error
	generation  uint64
	connections []ConnectionInfo
	closed      []string
	policies    []PolicyInfo
	upstreams   []UpstreamInfo
	reload      error
	reloading   func() // called before; nil: nothing is
	unchanged   bool
}

func (f *fake) Ready() error                  { return f.ready }
func (f *fake) Generation() uint64            { return f.generation }
func (f *fake) Connections() []ConnectionInfo { return f.connections }
func (f *fake) Policies() []PolicyInfo        { return f.policies }
func (f *fake) Upstreams() []UpstreamInfo     { return f.upstreams }

func (f *fake) CloseConnection(id string) bool {
	f.closed = append(f.closed, id)
	return slices.ContainsFunc(f.connections, func(c ConnectionInfo) bool { return c.ID == id })
}

func (f *fake) Reload() (changed bool, err error) {
	if f.reloading != nil {
		f.reloading()
	}
	if f.reload != nil || f.unchanged {
		return false, f.reload
	}
	f.generation++
	return true, nil
}

// tester sends requests to a handler over f.
type tester struct {
	*fake
	h http.Handler
}

func newTester(token string) *tester {
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_test", Help: "A gauge."}))
	f := &fake{generation: 7}
	return &tester{f, NewHandler(f, reg, token)}
}

// do sends a request for localhost with headers as "Name: value"; "Host: x"
// sets the host.
func (t *tester) do(method, target string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host = "127.0.0.1:9090"
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
		}
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	t.h.ServeHTTP(w, r)
	return w
}

// decode reads a JSON answer of the given status.
func decode[T any](t *testing.T, w *httptest.ResponseRecorder, status int) (v T) {
	t.Helper()
	if w.Code != status {
		t.Fatalf("status %d, want %d: %s", w.Code, status, w.Body)
	}
	want := "application/json"
	if status >= 400 {
		want = "application/problem+json"
	}
	if got := w.Header().Get("Content-Type"); got != want {
		t.Errorf("content type %q, want %q", got, want)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return v
}

func TestWhoMayAsk(t *testing.T) {
	for _, c := range []struct {
		name, token, method, path string
		headers                   []string
		want                      int
	}{
		{"loopback", "", "GET", "/connections", nil, 200},
		{"localhost", "", "GET", "/connections", []string{"Host: LocalHost:9090"}, 200},
		{"IPv6", "", "GET", "/connections", []string{"Host: [::1]:9090"}, 200},
		{"IPv6 without a port", "", "GET", "/connections", []string{"Host: [::1]"}, 200},
		{"another address", "", "GET", "/connections", []string{"Host: 10.0.0.1"}, 200},
		{"HTTP/1.0 without a host", "", "GET", "/connections", []string{"Host: "}, 200},
		{"rebound name", "", "GET", "/connections", []string{"Host: evil.example:9090"}, 403},
		{"rebound name that looks local", "", "GET", "/connections", []string{"Host: localhost.evil.example"}, 403},
		{"rebound name that looks numeric", "", "GET", "/metrics", []string{"Host: 127.0.0.1.evil.example"}, 403},
		{"rebound name, unknown path", "", "GET", "/nothing", []string{"Host: evil.example"}, 403},
		{"rebound name, probe", "", "GET", "/livez", []string{"Host: weir.default.svc"}, 200},
		{"rebound name, profile", "", "GET", "/debug/pprof/cmdline", []string{"Host: evil.example"}, 403},

		{"token", "s3cret", "GET", "/connections", []string{"Authorization: Bearer s3cret"}, 200},
		{"token, scheme in lower case", "s3cret", "GET", "/connections", []string{"Authorization: bearer s3cret"}, 200},
		{"token, any host", "s3cret", "GET", "/connections", []string{"Authorization: Bearer s3cret", "Host: weir.example"}, 200},
		{"no token", "s3cret", "GET", "/connections", nil, 401},
		{"wrong token", "s3cret", "GET", "/connections", []string{"Authorization: Bearer s3creT"}, 401},
		{"longer token", "s3cret", "GET", "/connections", []string{"Authorization: Bearer s3cret0"}, 401},
		{"empty token", "s3cret", "GET", "/connections", []string{"Authorization: Bearer "}, 401},
		{"other scheme", "s3cret", "GET", "/connections", []string{"Authorization: Basic s3cret"}, 401},
		{"no token, metrics", "s3cret", "GET", "/metrics", nil, 401},
		{"no token, list", "s3cret", "GET", "/", nil, 401},
		{"no token, profile", "s3cret", "GET", "/debug/pprof/heap", nil, 401},
		{"no token, unknown path", "s3cret", "GET", "/nothing", nil, 401},
		{"no token, wrong method", "s3cret", "PUT", "/reload", nil, 401},
		{"no token, reload", "s3cret", "POST", "/reload", nil, 401},
		{"no token, livez", "s3cret", "GET", "/livez", nil, 200},
		{"no token, readyz", "s3cret", "GET", "/readyz", nil, 200},
		{"no token, livez with the wrong method", "s3cret", "POST", "/livez", nil, 401},

		{"cross-site page", "", "POST", "/reload", []string{"Sec-Fetch-Site: cross-site"}, 403},
		{"same-site page", "", "POST", "/reload", []string{"Sec-Fetch-Site: same-site"}, 403},
		{"cross-site page deletes", "", "DELETE", "/connections/a", []string{"Sec-Fetch-Site: cross-site"}, 403},
		{"old browser", "", "POST", "/reload", []string{"Origin: https://evil.example"}, 403},
		{"cross-site page with the token", "s3cret", "POST", "/reload", []string{"Authorization: Bearer s3cret", "Sec-Fetch-Site: cross-site"}, 403},
		{"command line", "", "POST", "/reload", nil, 200},
		{"typed by a person", "", "POST", "/reload", []string{"Sec-Fetch-Site: none"}, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newTester(c.token).do(c.method, c.path, c.headers...)
			if w.Code != c.want {
				t.Errorf("%s %s: %d, want %d: %s", c.method, c.path, w.Code, c.want, w.Body)
			}
			if got := w.Header().Get("WWW-Authenticate"); (got != "") != (c.want == 401) {
				t.Errorf("WWW-Authenticate: %q with status %d", got, w.Code)
			}
			if w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Error("another origin is allowed to read the answer")
			}
		})
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	for _, c := range []struct {
		method, path string
		want         int
		allow        string
	}{
		{"GET", "/nothing", 404, ""},
		{"POST", "/connections/a/b", 404, ""},
		{"PUT", "/reload", 405, "POST"},
		{"GET", "/reload", 405, "POST"},
		{"HEAD", "/reload", 405, "POST"},
		{"DELETE", "/connections", 405, "GET, HEAD"},
		{"GET", "/connections/a", 405, "DELETE"},
		{"POST", "/livez", 405, "GET, HEAD"},
		{"OPTIONS", "/", 405, "GET, HEAD"},
		{"DELETE", "/debug/pprof/symbol", 405, "GET, POST, HEAD"},
	} {
		w := newTester("").do(c.method, c.path)
		p := decode[problem](t, w, c.want)
		if p.Status != c.want || p.Title == "" || p.Detail == "" || p.Type != "about:blank" {
			t.Errorf("%s %s: %+v", c.method, c.path, p)
		}
		if got := w.Header().Get("Allow"); got != c.allow {
			t.Errorf("%s %s: Allow %q, want %q", c.method, c.path, got, c.allow)
		}
	}
}

func TestListNamesEveryEndpoint(t *testing.T) {
	h := newTester("")
	list := decode[[]endpoint](t, h.do("GET", "/"), 200)
	if len(list) < 10 {
		t.Errorf("%d endpoints", len(list))
	}
	for _, e := range list {
		if strings.Contains(e.Path, "pprof/profile") || strings.Contains(e.Path, "pprof/trace") {
			continue // these take seconds
		}
		w := h.do(e.Method, strings.Replace(e.Path, "{id}", "none", 1))
		if want := map[bool]int{false: 200, true: 404}[e.Method == "DELETE"]; w.Code != want {
			t.Errorf("%s %s is listed and answers %d, want %d", e.Method, e.Path, w.Code, want)
		}
	}
}

func TestProbes(t *testing.T) {
	h := newTester("")
	decode[map[string]string](t, h.do("GET", "/livez"), 200)
	decode[map[string]string](t, h.do("GET", "/readyz"), 200)
	h.ready = errors.New("draining since SIGTERM")
	decode[map[string]string](t, h.do("GET", "/livez"), 200)
	if p := decode[problem](t, h.do("GET", "/readyz"), 503); p.Detail != "draining since SIGTERM" {
		t.Errorf("the reason is %q", p.Detail)
	}
}

func TestMetrics(t *testing.T) {
	w := newTester("").do("GET", "/metrics")
	if w.Code != 200 || !strings.Contains(w.Body.String(), "weir_test 0\n") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}

func TestConnections(t *testing.T) {
	h := newTester("")
	if got := h.do("GET", "/connections").Body.String(); got != "[]\n" {
		t.Errorf("without tunnels: %s", got)
	}
	full := ConnectionInfo{
		ID: "c1", Route: "chat", Policy: "standard", Peer: "192.0.2.1:5000", Upstream: "http://127.0.0.1:9000",
		State: "open", LimitClass: "gold", TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", AgeSeconds: 1.5,
		Messages: Flow{1, 2}, Bytes: Flow{3, 4}, Shed: Flow{5, 6}, QueuedMessages: Flow{7, 8}, QueuedBytes: Flow{9, 10},
		EventKeys: []string{"presence"},
	}
	many := full
	many.ID, many.EventKeys = "c3", make([]string, 100)
	h.connections = []ConnectionInfo{full, {ID: "c2", Route: "other"}, many}

	fields := decode[[]map[string]any](t, h.do("GET", "/connections"), 200)[0]
	flow := func(up, down float64) any { return map[string]any{"to_upstream": up, "to_client": down} }
	want := map[string]any{
		"id": "c1", "route": "chat", "policy": "standard", "peer": "192.0.2.1:5000", "upstream": "http://127.0.0.1:9000",
		"state": "open", "limit_class": "gold", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "age_seconds": 1.5,
		"messages": flow(1, 2), "bytes": flow(3, 4), "shed": flow(5, 6), "queued_messages": flow(7, 8), "queued_bytes": flow(9, 10),
		"event_keys": []any{"presence"},
	}
	if !reflect.DeepEqual(fields, want) {
		t.Errorf("fields %v\nwant   %v", fields, want)
	}

	for _, c := range []struct{ query, ids string }{
		{"", "c1 c2 c3"},
		{"?route=chat", "c1 c3"},
		{"?route=none", ""},
		{"?limit=2", "c1 c2"},
		{"?limit=9", "c1 c2 c3"},
		{"?route=chat&limit=1", "c1"},
	} {
		var ids []string
		for _, got := range decode[[]ConnectionInfo](t, h.do("GET", "/connections"+c.query), 200) {
			ids = append(ids, got.ID)
			if got.EventKeys == nil || len(got.EventKeys) > maxEventKeys {
				t.Errorf("%s: %d event keys, want a list of at most %d", got.ID, len(got.EventKeys), maxEventKeys)
			}
		}
		if got := strings.Join(ids, " "); got != c.ids {
			t.Errorf("%s: %s, want %s", c.query, got, c.ids)
		}
	}
	for _, bad := range []string{"0", "-1", "x", "1.5", "99999999999999999999"} {
		decode[problem](t, h.do("GET", "/connections?limit="+bad), 400)
	}
	if len(many.EventKeys) != 100 {
		t.Error("the source's own list was cut")
	}
}

func TestDisconnect(t *testing.T) {
	h := newTester("")
	h.connections = []ConnectionInfo{{ID: "a/b"}}
	if w := h.do("DELETE", "/connections/a%2Fb"); w.Code != 204 || w.Body.Len() != 0 {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	decode[problem](t, h.do("DELETE", "/connections/gone"), 404)
	if !slices.Equal(h.closed, []string{"a/b", "gone"}) {
		t.Errorf("closed %q", h.closed)
	}
}

func TestPoliciesAndUpstreams(t *testing.T) {
	h := newTester("")
	for _, path := range []string{"/policies", "/upstreams"} {
		if got := h.do("GET", path).Body.String(); got != "[]\n" {
			t.Errorf("%s with none: %s", path, got)
		}
	}
	h.policies = []PolicyInfo{{Generation: 7, Name: "standard", Module: "plugins/standard.wasm", SHA256: "ab", Engine: "interpreter", Calls: 3, Faults: 1, Instances: 2, Breaker: "closed", CachedRules: 4, MemoryBytes: 65536}}
	want := map[string]any{"generation": 7.0, "name": "standard", "module": "plugins/standard.wasm", "sha256": "ab", "engine": "interpreter", "calls": 3.0, "faults": 1.0, "instances": 2.0, "breaker": "closed", "cached_rules": 4.0, "memory_bytes": 65536.0}
	if got := decode[[]map[string]any](t, h.do("GET", "/policies"), 200)[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("fields %v\nwant   %v", got, want)
	}
	h.upstreams = []UpstreamInfo{{Name: "app", Targets: []TargetInfo{{URL: "http://127.0.0.1:9000", Healthy: true, Idle: 1, InUse: 2}}}}
	if got := decode[[]UpstreamInfo](t, h.do("GET", "/upstreams"), 200); !reflect.DeepEqual(got, h.upstreams) {
		t.Errorf("%+v, want %+v", got, h.upstreams)
	}
}

func TestReload(t *testing.T) {
	bad := config.Errors{{File: "gateway.toml", Line: 3, Key: "limits.max_inbox", Message: "is negative"}, {File: "gateway.toml", Line: 9, Message: "unknown key"}}
	listed := []fault{{"gateway.toml", 3, "limits.max_inbox", "is negative"}, {"gateway.toml", 9, "", "unknown key"}}
	for _, c := range []struct {
		name string
		err  error
		want int
		list []fault
	}{
		{"configuration", bad, 422, listed},
		{"wrapped", fmt.Errorf("reload: %w", bad), 422, listed},
		{"one place", bad[0], 422, listed[:1]},
		{"plain", errors.New("no such file"), 422, []fault{{Message: "no such file"}}},
		{"joined", errors.Join(bad, errors.New("policy traps")), 422, append(slices.Clone(listed), fault{Message: "policy traps"})},
		{"conflict", fmt.Errorf("server.listen changed: %w", ErrConflict), 409, []fault{{Message: "server.listen changed: " + ErrConflict.Error()}}},
		{"conflict with its place", fmt.Errorf("%w: %w", ErrConflict, bad[0]), 409, listed[:1]},
		{"conflict among others", errors.Join(ErrConflict, bad), 409, listed},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newTester("")
			h.reload = c.err
			if p := decode[problem](t, h.do("POST", "/reload"), c.want); !slices.Equal(p.Errors, c.list) {
				t.Errorf("errors %+v, want %+v", p.Errors, c.list)
			}
		})
	}
	h := newTester("")
	for _, want := range []reloaded{{8, true}, {8, false}} {
		if got := decode[reloaded](t, h.do("POST", "/reload"), 200); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		h.unchanged = true
	}
}
