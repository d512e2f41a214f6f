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
