package wasmhost_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"weir/hostabi/wasmhost"
	"weir/proxy/config"
	"weir/proxy/gateway"
)

// site is a gateway with two policies: that of bad.test is replaced by hostile
// modules, that of good.test is good and has nothing to do with them.
type site struct {
	t      *testing.T
	g      *gateway.Gateway
	module string // of bad.test
	stop   func()
}

const siteConfig = `
[server]
listen = "127.0.0.1:0"
drain_timeout = "2s"
[admin]
listen = "127.0.0.1:0"
[upstream.demo]
urls = ["demo:"]
[policy.bad]
module = "bad.wasm"
engine = %[1]q
[policy.good]
module = "good.wasm"
engine = %[1]q
[[route]]
name = "bad"
host = "bad.test"
upstream = "demo"
policy = "bad"
[[route]]
name = "good"
host = "good.test"
upstream = "demo"
policy = "good"
`

func open(t *testing.T, engine string, call time.Duration) *site {
	return openLogging(t, engine, call, slog.New(slog.DiscardHandler))
}

func openLogging(t *testing.T, engine string, call time.Duration, log *slog.Logger) *site {
	dir := t.TempDir()
	s := &site{t: t, module: filepath.Join(dir, "bad.wasm")}
	path := filepath.Join(dir, "gateway.toml")
	for name, content := range map[string][]byte{
		path: fmt.Appendf(nil, siteConfig, engine), s.module: wasmhost.GoodModule(), filepath.Join(dir, "good.wasm"): append(wasmhost.GoodModule(), 0, 1, 0),
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Files{}.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	s.g, err = gateway.New(t.Context(), cfg, gateway.Options{Log: log, CallTimeout: call, InitTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.g.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

// put replaces the module of bad.test and reloads.
func (s *site) put(wasm []byte) error {
	s.t.Helper()
	if err := os.WriteFile(s.module+".new", wasm, 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(s.module+".new", s.module); err != nil {
		s.t.Fatal(err)
	}
	return s.g.Reload()
}

// mustPut is put with a module that loads.
func (s *site) mustPut(name string, wasm []byte) {
	s.t.Helper()
	if err := s.put(wasm); err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
}

func (s *site) get(host, target string) (status int, body string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+s.g.Addr().String()+target, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Errorf("%s %s: %v", host, target, err)
		return 0, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Errorf("%s %s: %v", host, target, err)
	}
	return resp.StatusCode, string(b)
}

// tunnel opens one whose messages come back.
func (s *site) tunnel(host string) *websocket.Conn {
	s.t.Helper()
	c, _, err := websocket.Dial(s.t.Context(), "ws://"+s.g.Addr().String()+"/ws", &websocket.DialOptions{Host: host})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *site) echo(c *websocket.Conn, msg string) {
	s.t.Helper()
	err := c.Write(context.Background(), websocket.MessageText, []byte(msg))
	if err == nil {
		var got []byte
		if _, got, err = c.Read(context.Background()); err == nil && string(got) != msg {
			err = fmt.Errorf("got %.200q", got)
		}
	}
	if err != nil {
		s.t.Errorf("%.200q: %v", msg, err)
	}
}

type policyInfo struct {
	Name, Breaker            string
	Instances, Calls, Faults int64
	MemoryBytes              int64 `json:"memory_bytes"`
}

func (s *site) policy(name string) policyInfo {
	s.t.Helper()
	resp, err := http.Get("http://" + s.g.AdminAddr().String() + "/policies")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var all []policyInfo
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		s.t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(p policyInfo) bool { return p.Name == name })
	if i < 0 {
		s.t.Fatalf("no policy %s in %+v", name, all)
	}
	return all[i]
}

// until waits for a state.
func until(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !reached(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// provoke asks every hook about what it fails at, and expects the documented
// fallback of each (ABI.md §6.7).
func (s *site) provoke(name string, m wasmhost.Hostile, n int) {
	s.t.Helper()
	status, body := s.get("bad.test", fmt.Sprintf("/status/204?%c%d", wasmhost.AdmitTrigger, n))
	failed := status == 503 && strings.Contains(body, "policy_failed")
	if !failed && !(m.Answers && status == 204) {
		s.t.Errorf("%s: admit: %d %s", name, status, body)
	}
	if status, _ := s.get("bad.test", fmt.Sprintf("/nothing%c%d", wasmhost.FramingTrigger, n)); status != 404 && status != 503 {
		s.t.Errorf("%s: framing: %d", name, status)
	}
	if status, _ := s.get("bad.test", "/status/418"); status != 418 && status != 503 {
		s.t.Errorf("%s: fault: %d", name, status)
	}
}

func bothEngines(t *testing.T, test func(t *testing.T, engine string)) {
	for _, engine := range []string{wasmhost.Interpreter, wasmhost.Compiler} {
		t.Run(engine, func(t *testing.T) { test(t, engine) })
	}
}

// A policy that fails at whatever it is asked: each hook falls back, the breaker
// opens, the tunnel and the policy beside it notice nothing, and a good module in
// its place heals it at once.
func TestHostilePoliciesAreContained(t *testing.T) {
	bothEngines(t, func(t *testing.T, engine string) {
		s := open(t, engine, 20*time.Millisecond)
		innocent := s.tunnel("good.test")
		defer innocent.CloseNow()
		hostile := wasmhost.HostileModules()
		for n, name := range slices.Sorted(maps.Keys(hostile)) {
			m := hostile[name]
			s.mustPut(name, m.Wasm)
			c := s.tunnel("bad.test")
			s.echo(c, fmt.Sprintf(`{"type":"%c%d"}`, wasmhost.ClassifyTrigger, n)) // critical, so it passes
			s.provoke(name, m, n)
			s.echo(innocent, fmt.Sprintf(`{"type":"%s"}`, name))
			if m.Answers {
				if p := s.policy("bad"); p.Breaker != "closed" || p.Instances == 0 {
					t.Errorf("%s: %+v", name, p)
				}
			} else {
				until(t, "an open breaker refuses", func() bool { // which it does for a second at first
					s.get("bad.test", "/status/204?"+string(rune(wasmhost.AdmitTrigger)))
					if s.policy("bad").Breaker != "open" {
						return false
					}
					status, body := s.get("bad.test", "/status/204")
					return status == 503 && strings.Contains(body, "policy_failed")
				})
			}
			if status, body := s.get("good.test", "/status/204?"+string(rune(wasmhost.AdmitTrigger))); status != 204 {
				t.Errorf("%s: the other policy: %d %s", name, status, body)
			}
			s.mustPut("a good one", wasmhost.GoodModule())
			if status, body := s.get("bad.test", "/status/204?"+string(rune(wasmhost.AdmitTrigger))); status != 204 {
				t.Errorf("%s: healed by a reload: %d %s", name, status, body)
			}
			s.echo(c, fmt.Sprintf(`{"type":"%c"}`, wasmhost.ClassifyTrigger)) // the tunnel has lived through both
			_ = c.CloseNow()
		}
		if p := s.policy("good"); p.Faults != 0 || p.Breaker != "closed" || p.Calls == 0 {
			t.Errorf("the other policy: %+v", p)
		}
	})
}

// A policy that goes on failing is asked again when the breaker lets it, and
// when what it is asked is harmless, serves again without any reload.
func TestABreakerCloses(t *testing.T) {
	bothEngines(t, func(t *testing.T, engine string) {
		s := open(t, engine, 20*time.Millisecond)
		s.mustPut("loop", wasmhost.HostileModules()["loop"].Wasm)
		until(t, "the breaker opens", func() bool {
			s.get("bad.test", "/status/204?"+string(rune(wasmhost.AdmitTrigger)))
			return s.policy("bad").Breaker == "open"
		})
		until(t, "it serves again", func() bool {
			status, _ := s.get("bad.test", "/status/204?harmless")
			return status == 204
		})
		if p := s.policy("bad"); p.Breaker != "closed" {
			t.Errorf("%+v", p)
		}
	})
}

// hold is a log in which the lines of policy bad wait until they are let go: its
// guests stay in their calls for as long.
type hold struct {
	slog.Handler
	mine       bool
	held, over chan struct{}
}

func (h hold) Enabled(context.Context, slog.Level) bool { return true }

func (h hold) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.mine = h.mine || slices.ContainsFunc(attrs, func(a slog.Attr) bool { return a.Key == "policy" && a.Value.String() == "bad" })
	return h
}

func (h hold) Handle(_ context.Context, r slog.Record) error {
	if h.mine && r.Message == "policy says" {
		select {
		case h.held <- struct{}{}:
			<-h.over
		case <-h.over:
		}
	}
	return nil
}

// While every guest of a policy is in a call that does not end, everybody else
// is served.
func TestAPolicyThatTakesItsTimeDelaysNobodyElse(t *testing.T) {
	bothEngines(t, func(t *testing.T, engine string) {
		h := hold{Handler: slog.DiscardHandler, held: make(chan struct{}), over: make(chan struct{})}
		s := openLogging(t, engine, time.Second, slog.New(h))
		s.mustPut("log without end", wasmhost.HostileModules()["log without end"].Wasm)
		innocent := s.tunnel("good.test")
		defer innocent.CloseNow()
		var slow sync.WaitGroup
		for range s.policy("bad").Instances {
			slow.Go(func() { s.get("bad.test", "/status/204?"+string(rune(wasmhost.AdmitTrigger))) })
			<-h.held
		}
		for n := range 20 {
			s.echo(innocent, fmt.Sprintf(`{"type":"k%d"}`, n))
			if status, body := s.get("good.test", "/status/204"); status != 204 {
				t.Errorf("the other policy: %d %s", status, body)
			}
		}
		close(h.over)
		slow.Wait()
	})
}

// counted is what may leak.
type counted struct {
	goroutines, files, modules int
	heap                       uint64
}

// within reports whether there is no more of anything, but for what the collector
// and pools of workers and connections keep: a few, where a leak is hundreds.
func (c counted) within(before counted) bool {
	return c.goroutines <= before.goroutines+4 && c.files <= before.files+4 && c.modules == before.modules && c.heap < before.heap+4<<20
}

func count() counted {
	http.DefaultClient.CloseIdleConnections()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, _ := os.ReadDir("/proc/self/fd") // there are none to count elsewhere
	return counted{runtime.NumGoroutine(), len(files), wasmhost.CompiledModules(), m.HeapAlloc}
}

// besides has two tunnels and two clients served by the good policy while rounds
// are gone through, and returns how often.
func (s *site) besides(from, to int, round func(n int)) int64 {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	var load sync.WaitGroup
	var served, late atomic.Int64
	for range 2 {
		c := s.tunnel("good.test")
		load.Go(func() {
			defer c.CloseNow()
			for n := 0; ctx.Err() == nil && !s.t.Failed(); n++ {
				s.echo(c, fmt.Sprintf(`{"type":"k%d","n":%d}`, n%7, n))
				switch status, _ := s.get("good.test", "/status/204"); status {
				case 204:
					served.Add(1)
				case 503: // on a machine so busy that even it is late
					late.Add(1)
				default:
					s.t.Errorf("the other policy: %d", status)
				}
			}
		})
	}
	for n := from; n < to && !s.t.Failed(); n++ {
		round(n)
	}
	cancel()
	load.Wait()
	if served, late := served.Load(), late.Load(); late > 2+served/50 {
		s.t.Errorf("the other policy failed %d times and served %d", late, served)
	}
	return served.Load()
}

// settled puts a good module in the place of whatever there is, and counts once
// both policies are whole.
func (s *site) settled() counted {
	s.t.Helper()
	s.mustPut("a good one", wasmhost.GoodModule())
	until(s.t, "both policies are whole, and nothing else", func() bool {
		p := s.policy("bad")
		return p.Breaker == "closed" && p.Instances == s.policy("good").Instances && wasmhost.CompiledModules() == 2
	})
	return count()
}

// A thousand reloads, in each engine half of them, under load, with every module
// that is refused and every one that has to be contained in the mix, each of
// which is provoked: the load is served throughout, and nothing is left.
func TestAThousandReloadsOfHostilePoliciesLeakNothing(t *testing.T) {
	bothEngines(t, func(t *testing.T, engine string) {
		s := open(t, engine, 5*time.Millisecond)
		hostile, refused := wasmhost.HostileModules(), wasmhost.RefusedModules()
		good, bad := slices.Sorted(maps.Keys(hostile)), slices.Sorted(maps.Keys(refused))
		round := func(n int) {
			if n%2 == 0 {
				wasm := bad[n/2%len(bad)]
				why := refused[wasm]
				err := s.put([]byte(wasm))
				if err == nil {
					t.Fatalf("%s: it loads", why[0])
				}
				for _, word := range why[1:] {
					if !strings.Contains(err.Error(), word) {
						t.Errorf("%s: the error does not name %q: %v", why[0], word, err)
					}
				}
				return
			}
			name := good[n/2%len(good)]
			s.mustPut(name, hostile[name].Wasm)
			s.provoke(name, hostile[name], n)
		}
		served := s.besides(0, 20, round) // what is taken at first and kept is no leak
		before := s.settled()
		if served += s.besides(20, 20+reloads, round); served < reloads/10 {
			t.Errorf("%d were served: there was no load", served)
		}
		after := s.settled()
		for range 100 {
			if after.within(before) {
				break
			}
			<-time.After(100 * time.Millisecond)
			after = count()
		}
		if !after.within(before) {
			t.Errorf("before %+v, after %+v", before, after)
		}
		if p, q := s.policy("bad"), s.policy("good"); p.MemoryBytes != q.MemoryBytes {
			t.Errorf("%+v and %+v", p, q)
		}
	})
}
