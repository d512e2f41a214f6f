package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/policy"
	"weir/proxy/policy/policytest"
)

// A policy is asked what it says of a route before that is published: tunnels do not
// follow some routes of a generation for long before the others.
func TestNoPolicyIsAskedWhileAGenerationIsPublished(t *testing.T) {
	r := prepare(t, t.TempDir(), config.Files{}, plainRoute)
	t.Cleanup(r.g.close)
	asked, publishing := 0, false
	p := policytest.New(t, policytest.Funcs{Error: func(in *hostabi.ErrorInput) (hostabi.ErrorOutput, bool) {
		if in.Route == "demo" {
			asked++
			if publishing || !r.g.mu.TryLock() {
				t.Error("asked while it is published, or under the lock of all tunnels")
				return hostabi.ErrorOutput{}, false
			}
			r.g.mu.Unlock()
		}
		return hostabi.ErrorOutput{}, false
	}})
	cfg, err := config.Parse(r.path, []byte(head+plainRoute+"policy = \"p\"\n[policy.p]\nmodule = \"p.wasm\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := policyKey(cfg.Policies["p"])
	if err != nil {
		t.Fatal(err)
	}
	old := r.g.current.Load()
	had := &generation{upstreams: old.upstreams, policies: map[string]*shared[*policy.Policy]{"p": share(p, key)}}
	gen, err := r.g.build(t.Context(), cfg, had)
	if err != nil {
		t.Fatal(err)
	}
	publishing = true
	r.g.publish(gen)
	if asked == 0 {
		t.Error("the policy is not asked")
	}
	r.g.retire(old)
}

// A reload is not gone on with at the end: of many routes a policy is asked for long.
func TestNoMoreRoutesAreBuiltAtTheEnd(t *testing.T) {
	r := prepare(t, t.TempDir(), config.Files{}, plainRoute)
	t.Cleanup(r.g.close)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	asked := map[string]int{}
	p := policytest.New(t, policytest.Funcs{Error: func(in *hostabi.ErrorInput) (hostabi.ErrorOutput, bool) {
		if asked[in.Route]++; in.Route == "demo" {
			end()
		}
		return hostabi.ErrorOutput{}, false
	}})
	cfg, err := config.Parse(r.path, []byte(head+plainRoute+"policy = \"p\"\n[[route]]\nname = \"second\"\npath = \"/second\"\nupstream = \"demo\"\npolicy = \"p\"\n[policy.p]\nmodule = \"p.wasm\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := policyKey(cfg.Policies["p"])
	if err != nil {
		t.Fatal(err)
	}
	had := &generation{upstreams: r.g.current.Load().upstreams, policies: map[string]*shared[*policy.Policy]{"p": share(p, key)}}
	if _, err := r.g.build(ctx, cfg, had); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if asked["demo"] == 0 || asked["second"] > 0 {
		t.Errorf("asked about %v", asked)
	}
}

// Who finds a route in the running generation finds all of it.
func TestARouteIsWholeWhenItIsPublished(t *testing.T) {
	r := prepare(t, t.TempDir(), config.Files{}, plainRoute)
	t.Cleanup(r.g.close)
	more := plainRoute
	for i := range 2000 {
		more += fmt.Sprintf("[[route]]\npath = \"/%d\"\nupstream = \"demo\"\n", i)
	}
	old := r.g.current.Load()
	gen := r.build(more)
	looking, halves := make(chan bool), make(chan int)
	go func() {
		close(looking)
		for r.g.current.Load() == old {
		}
		n := 0
		for _, rt := range gen.router.any.routes {
			if rt.live.relay.Load() == nil {
				n++
			}
		}
		halves <- n
	}()
	<-looking
	r.g.publish(gen)
	if n := <-halves; n > 0 {
		t.Errorf("%d routes say nothing yet", n)
	}
	r.g.retire(old)
}

// Nor is a tunnel left behind that begins just when its route is taken away.
func TestATunnelBegunByAGenerationThatIsGoneIsFoundAgain(t *testing.T) {
	r := prepare(t, t.TempDir(), config.Files{}, plainRoute)
	t.Cleanup(r.g.close)
	began := r.g.current.Load().router.match(nil, []byte("/"))
	for _, text := range []string{strings.Replace(plainRoute, `name = "demo"`, `name = "other"`, 1), plainRoute} {
		old := r.g.current.Load()
		r.g.publish(r.build(text))
		r.g.retire(old)
		if text != plainRoute {
			if f := began.enter(netip.Addr{}); f != nil {
				t.Fatal(f)
			}
			defer began.leave(netip.Addr{})
		}
	}
	if r.g.current.Load().router.match(nil, []byte("/")).live != began.live {
		t.Error("the route that came back is another one")
	}
}

func TestLimitsOfAnOpenTunnelChange(t *testing.T) {
	r := start(t, plainRoute)
	c := r.ws("/ws")
	long := strings.Repeat("x", 2000)
	if err := echo(t.Context(), c, long); err != nil {
		t.Fatal(err)
	}
	r.write(plainRoute + "limits = { max_message_size = 1000 }")
	if err := r.g.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := echo(t.Context(), c, long); err == nil || !strings.Contains(err.Error(), "payload_too_large") {
		t.Errorf("after the reload: %v", err)
	}
	if err := echo(t.Context(), c, "short"); err != nil {
		t.Error(err)
	}
}

// A tunnel whose route goes and comes back follows it again, and counts on it.
func TestARouteThatComesBackHasItsTunnels(t *testing.T) {
	r := start(t, plainRoute)
	c := r.ws("/ws")
	for _, text := range []string{
		strings.Replace(plainRoute, `name = "demo"`, `name = "other"`, 1),
		plainRoute + "limits = { max_message_size = 1000, max_connections = 1 }",
	} {
		r.write(text)
		if err := r.g.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	if err := echo(t.Context(), c, strings.Repeat("x", 2000)); err == nil || !strings.Contains(err.Error(), "payload_too_large") {
		t.Errorf("it is judged by what its route said before: %v", err)
	}
	if status, _ := r.get("/status/200"); status != 503 {
		t.Errorf("a second connection, of one that the route may have: %d", status)
	}
}

// What a policy keeps for a route goes with the last generation that has the route,
// also when the policy itself stays. A tunnel that is still on it lives on.
func TestARouteThatIsGoneTakesItsRules(t *testing.T) {
	r := start(t, policyRoute(`"a"`, ""))
	c := r.ws("/ws")
	p := r.g.current.Load().policies["p"].part
	rules := p.Info().CachedRules
	for n := range 10 {
		r.write(strings.Replace(policyRoute(`"a"`, ""), `name = "demo"`, fmt.Sprintf(`name = "demo %d"`, n), 1))
		if err := r.g.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	if r.g.current.Load().policies["p"].part != p {
		t.Fatal("the policy is another one")
	}
	until(t, "only the rules of the last are left", func() bool { return rules > 0 && p.Info().CachedRules == rules })
	for _, key := range []string{"a", "new"} {
		if err := echo(t.Context(), c, `{"type":"`+key+`"}`); err != nil {
			t.Error(err)
		}
	}
	if n := p.Info().CachedRules; n != rules {
		t.Errorf("%d rules with the tunnel's, %d before", n, rules)
	}
}

func TestMaxMemoryChanges(t *testing.T) {
	r := start(t, plainRoute)
	r.write("[limits]\nmax_memory = \"2MiB\"\n" + plainRoute)
	if err := r.g.Reload(); err != nil {
		t.Fatal(err)
	}
	if max := r.g.memory.Max(); max != 2<<20 {
		t.Errorf("%d bytes", max)
	}
	own := r.g.routes["demo"].relay.Memory
	for _, c := range []struct {
		limits string
		want   int64 // 0: that of the process holds
	}{
		{`limits = { max_memory = "1MiB" }`, 1 << 20}, {`limits = { max_memory = "3MiB" }`, 3 << 20}, {"", 0},
	} {
		r.write("[limits]\nmax_memory = \"2MiB\"\n" + plainRoute + c.limits)
		if err := r.g.Reload(); err != nil {
			t.Fatal(err)
		}
		if max := own.Max(); max != c.want {
			t.Errorf("the route's own is %d bytes under %q", max, c.limits)
		}
	}
}
