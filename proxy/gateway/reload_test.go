package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"

	"weir/proxy/admin"
	"weir/proxy/config"
)

func policyRoute(droppable, limits string) string {
	return demoUpstream + limits + fmt.Sprintf(`
[policy.p]
module = %q
config = { droppable = [%s], gap_notice = true }
[[route]]
name = "demo"
upstream = "demo"
policy = "p"
`, "{{module}}", droppable)
}

func TestAReloadThatFailsChangesNothing(t *testing.T) {
	r := start(t, plainRoute)
	for what, f := range map[string]struct {
		toml string
		want string
	}{
		"a mistake":         {plainRoute + "unknown = 1", "unknown"},
		"a missing module":  {policyRoute("", "") + "[policy.q]\nmodule = 'nowhere.wasm'", "nowhere.wasm"},
		"a bad policy":      {strings.Replace(policyRoute("", ""), "gap_notice = true", "gap_notice = 7", 1), "gap_notice"},
		"no route any more": {demoUpstream, "route"},
	} {
		r.write(f.toml)
		err := r.g.Reload()
		if err == nil || !strings.Contains(err.Error(), f.want) {
			t.Errorf("%s: %v", what, err)
		}
		if n := r.g.current.Load().number; n != 1 {
			t.Errorf("%s: generation %d runs", what, n)
		}
		if status, _ := r.get("/status/200"); status != 200 {
			t.Errorf("%s: %d", what, status)
		}
	}
}

func TestAnotherListenAddressNeedsARestart(t *testing.T) {
	for _, c := range []struct{ was, is, want string }{
		{`"127.0.0.1:0"`, `"127.0.0.1:1"`, `server.listen: changed from "127.0.0.1:0" to "127.0.0.1:1"`},
		{`"none"`, `"127.0.0.1:0"`, `admin.listen: changed from "none" to "127.0.0.1:0"`},
	} {
		r := start(t, plainRoute)
		text := strings.Replace(head, c.was, c.is, 1) + plainRoute
		if err := os.WriteFile(r.path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.g.Reload(); !errors.Is(err, admin.ErrConflict) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "restart") {
			t.Error(err)
		}
	}
}

func TestFilesAreFollowed(t *testing.T) {
	r := start(t, plainRoute)
	r.write(plainRoute + "limits = { max_message_size = 1000 }")
	until(t, "the changed file runs", func() bool { return r.g.current.Load().number == 2 })
	r.write(plainRoute + "nonsense")
	until(t, "the mistake is logged", func() bool { return strings.Contains(r.logs.String(), "reload failed") })
	r.write(plainRoute + "limits = { max_message_size = 2000 }")
	until(t, "the mended file runs", func() bool { return r.g.current.Load().number == 3 })
}

// A module that made a reload fail is followed: mending it is enough.
func TestAModuleThatIsMended(t *testing.T) {
	good, err := os.ReadFile(standard(t))
	if err != nil {
		t.Fatal(err)
	}
	f := func(contents ...[]byte) {
		t.Helper()
		r := start(t, plainRoute)
		module := filepath.Join(filepath.Dir(r.path), "late.wasm")
		for i, content := range contents {
			if content != nil {
				if err := errors.Join(os.WriteFile(module+".new", content, 0o600), os.Rename(module+".new", module)); err != nil {
					t.Fatal(err)
				}
			}
			if i == 0 {
				r.write(strings.ReplaceAll(policyRoute("", ""), "{{module}}", module))
			}
			if i < len(contents)-1 {
				until(t, "the module is told of", func() bool { return strings.Count(r.logs.String(), "reload failed") > i })
			}
		}
		until(t, "the mended module runs", func() bool { return r.g.current.Load().number == 2 })
	}
	f(nil, good[:1000], good) // missing at first
	f(good[:1000], good)
}

// What makes another policy of it is no part that the next generation shares.
func TestPoliciesThatBehaveAlikeAreShared(t *testing.T) {
	key := func(change func(*config.Policy)) string {
		t.Helper()
		p := config.Policy{Bytes: []byte("a"), Engine: "interpreter", OnFault: "closed", Config: map[string]any{"a": 1}}
		change(&p)
		k, err := policyKey(&p)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	same := key(func(*config.Policy) {})
	if key(func(p *config.Policy) { p.Module = "moved.wasm" }) != same {
		t.Error("another path makes another policy")
	}
	for what, change := range map[string]func(*config.Policy){
		"bytes":    func(p *config.Policy) { p.Bytes = []byte("b") },
		"engine":   func(p *config.Policy) { p.Engine = "compiler" },
		"on_fault": func(p *config.Policy) { p.OnFault = "open" },
		"config":   func(p *config.Policy) { p.Config["a"] = 2 },
	} {
		if key(change) == same {
			t.Errorf("another %s makes no other policy", what)
		}
	}
}

// Names of policies are the operator's, and may be new with each reload: their series
// go with them.
func TestSeriesOfAPolicyGoWithIt(t *testing.T) {
	r := start(t, policyRoute("", ""))
	for _, name := range []string{"q", "r"} {
		r.write(strings.NewReplacer("[policy.p]", "[policy."+name+"]", `policy = "p"`, `policy = "`+name+`"`).Replace(policyRoute("", "")))
		if err := r.g.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "only the last one's are left", func() bool {
		families, err := r.g.metrics.Registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]int{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if l := m.GetLabel(); len(l) == 1 && l[0].GetName() == "policy" {
					names[l[0].GetValue()]++
				}
			}
		}
		return maps.Equal(names, map[string]int{"r": 3})
	})
}

// gate is a context at which whoever looks at it first waits.
type gate struct {
	context.Context
	once          sync.Once
	reached, open chan struct{}
}

func (g *gate) Done() <-chan struct{} {
	g.once.Do(func() { close(g.reached); <-g.open })
	return g.Context.Done()
}

func (g *gate) Err() error { g.Done(); return g.Context.Err() }

// A reload that is under way when the gateway ends is waited for: what it publishes
// would be closed by nobody.
func TestTheEndWaitsForAReload(t *testing.T) {
	r := start(t, plainRoute)
	ctx := &gate{Context: context.Background(), reached: make(chan struct{}), open: make(chan struct{})}
	r.g.life = ctx
	r.write(policyRoute("", ""))
	reloaded, stopped := make(chan error, 1), make(chan struct{})
	go func() { reloaded <- r.g.Reload() }()
	<-ctx.reached
	go func() { r.stop(); close(stopped) }()
	until(t, "the end has come to the reload", func() bool {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		return r.g.stopping() || bytes.Contains(stacks, []byte("gateway.(*Gateway).close("))
	})
	if r.g.stopping() {
		t.Error("it did not wait")
	}
	close(ctx.open)
	if err := <-reloaded; err != nil {
		t.Error(err)
	}
	<-stopped
	if n := instances(t, r.g); n != 0 {
		t.Errorf("%v instances of policies are left", n)
	}
	before := r.logs.String()
	if err := r.g.Reload(); err == nil {
		t.Error("a reload after the end")
	}
	if logs := r.logs.String(); logs != before {
		t.Errorf("of which something is said: %s", logs[len(before):])
	}
}

// What changes in a drain, which may take long, is taken up like before, policies too.
func TestFilesAreFollowedInADrain(t *testing.T) {
	r := start(t, plainRoute)
	r.reload(`drain_timeout = "2s"`, `drain_timeout = "2m"`, plainRoute)
	stream, err := http.Get(r.base + "/events?rate=20&count=1000000")
	if err != nil {
		t.Fatal(err)
	}
	until(t, "files are followed", func() bool { return r.g.watcher.Load() != nil })
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	until(t, "it drains", r.g.isDraining)
	r.write(policyRoute("", ""))
	until(t, "the policy is loaded", func() bool {
		if logs := r.logs.String(); strings.Contains(logs, "reload failed") {
			t.Fatal(logs)
		}
		return r.g.current.Load().number == 2
	})
	_ = stream.Body.Close()
	<-stopped
}

// A confinement holds for reloads, by whatever way, and for what is watched.
func TestReloadsAreConfined(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	good, err := os.ReadFile(standard(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir + "/good.wasm", outside + "/secret.wasm"} {
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink(outside, dir+"/out"), os.Symlink(outside+"/secret.wasm", dir+"/secret.wasm")); err != nil {
		t.Fatal(err)
	}
	files, err := config.Within(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := startIn(t, dir, files, plainRoute)
	for i, module := range []string{outside + "/secret.wasm", "secret.wasm", "out/secret.wasm"} {
		r.write(strings.ReplaceAll(policyRoute("", ""), "{{module}}", module))
		if err := r.g.Reload(); err == nil || !strings.Contains(err.Error(), "--confine") || r.g.current.Load().number != 1 {
			t.Errorf("%s: %v", module, err)
		}
		until(t, "the watcher sees it too", func() bool { return strings.Count(r.logs.String(), "reload failed") >= 2*(i+1) })
	}
	for _, watched := range r.g.watcher.Load().fs.WatchList() {
		if watched != dir && filepath.Dir(watched) != dir {
			t.Errorf("%s is watched", watched)
		}
	}
	r.write(strings.ReplaceAll(policyRoute("", ""), "{{module}}", "good.wasm"))
	until(t, "a module inside is loaded", func() bool { return r.g.current.Load().number == 2 })
}

func TestUnchangedPartsAreKept(t *testing.T) {
	r := start(t, policyRoute(`"presence"`, ""))
	was := r.g.current.Load()
	r.write(policyRoute(`"presence"`, "[limits]\nmax_inbox = 7\n"))
	if err := r.g.Reload(); err != nil {
		t.Fatal(err)
	}
	is := r.g.current.Load()
	if is.number != 2 || is.policies["p"] != was.policies["p"] || is.upstreams["demo"] != was.upstreams["demo"] {
		t.Error("a policy or an upstream that did not change was built anew")
	}
	if err := r.g.Reload(); err != nil || r.g.current.Load() != is {
		t.Errorf("the same files made a new generation: %v", err)
	}
}

// Tunnels live for days: to begin counting anew with a target more would send it half of
// those that follow, and not the ones that it lacks.
func TestATargetMoreGetsTheTunnels(t *testing.T) {
	holding := func() string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if c, err := websocket.Accept(w, req, nil); err == nil {
				_, _, _ = c.Read(req.Context())
			}
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	conf := func(urls ...string) string {
		return fmt.Sprintf("[upstream.u]\nbalance = \"least_connections\"\nurls = [\"%s\"]\n[[route]]\nupstream = \"u\"\n", strings.Join(urls, `", "`))
	}
	a, b := holding(), holding()
	r := start(t, conf(a))
	for range 3 {
		r.ws("/")
	}
	r.write(conf(a, b))
	if err := r.g.Reload(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		r.ws("/")
	}
	for _, s := range r.g.current.Load().upstreams["u"].part.Status() {
		if s.InUse != 3 {
			t.Errorf("%+v", s)
		}
	}
}

// TestReloadsUnderLoad is the promise of the first page: a hundred reloads, and
// not one message or request notices.
func TestReloadsUnderLoad(t *testing.T) {
	r := start(t, policyRoute(`"a"`, ""))
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var messages, requests atomic.Int64
	for i := range 4 {
		c := r.ws("/ws")
		load.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := echo(t.Context(), c, fmt.Sprintf(`{"type":"k%d","n":%d}`, n%7, n)); err != nil {
					t.Errorf("tunnel %d, message %d: %v", i, n, err)
					return
				}
				messages.Add(1)
			}
		})
		load.Go(func() {
			for ctx.Err() == nil {
				res, err := http.Get(r.base + "/status/204")
				if err != nil {
					t.Errorf("request: %v", err)
					return
				}
				_ = res.Body.Close()
				if res.StatusCode != 204 {
					t.Errorf("request: %d", res.StatusCode)
					return
				}
				requests.Add(1)
			}
		})
	}
	const reloads = 40
	for n := range reloads {
		// Loading a policy takes most of a reload's time: every fifth has a new one.
		r.write(policyRoute(fmt.Sprintf(`"b%d"`, n/5), fmt.Sprintf("[limits]\nmax_inbox = %d\n", 100+n)))
		if err := r.g.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	load.Wait()
	if messages.Load() == 0 || requests.Load() == 0 {
		t.Fatalf("%d messages, %d requests: there was no load", messages.Load(), requests.Load())
	}
	gen := r.g.current.Load()
	if gen.number < reloads {
		t.Errorf("generation %d after %d reloads", gen.number, reloads)
	}
	until(t, "old generations are closed", func() bool {
		return instances(t, r.g) == float64(gen.policies["p"].part.Info().Instances)
	})
}

// instances is what weir_policy_instances says in all.
func instances(t *testing.T, g *Gateway) (n float64) {
	t.Helper()
	families, err := g.metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "weir_policy_instances" {
			for _, m := range f.GetMetric() {
				n += m.GetGauge().GetValue()
			}
		}
	}
	return n
}

// A configuration that is refused has no backends asked for their health.
func TestARefusedReloadAsksNoBackend(t *testing.T) {
	asked := make(chan string, 100)
	backends := make([]string, 8)
	for i := range backends {
		s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { asked <- req.URL.Path }))
		defer s.Close()
		backends[i] = strconv.Quote(s.URL)
	}
	r := start(t, plainRoute)
	more := "[upstream.more]\nhealth_path = \"/refused\"\nurls = [" + strings.Join(backends, ", ") + "]\n"
	r.write(more + strings.ReplaceAll(policyRoute(`"a"`, ""), "droppable", "dropable"))
	if err := r.g.Reload(); err == nil {
		t.Fatal("it was taken")
	}
	r.write(strings.ReplaceAll(more, "refused", "taken") + plainRoute)
	if err := r.g.Reload(); err != nil {
		t.Fatal(err)
	}
	for range backends {
		if path := <-asked; path != "/taken" {
			t.Fatal(path)
		}
	}
}
