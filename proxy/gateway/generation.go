package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"weir/proxy/config"
	"weir/proxy/crash"
	"weir/proxy/demo"
	"weir/proxy/metrics"
	"weir/proxy/policy"
	"weir/proxy/upstream"
)

// generation is everything built from one configuration, swapped whole.
// Policies and upstreams that a new configuration leaves unchanged are shared
// with it: their instances, caches and idle connections live on.
type generation struct {
	number    int
	cfg       *config.Config
	router    router
	policies  map[string]*shared[*policy.Policy]
	views     map[string]*policy.View // by route
	upstreams map[string]*shared[*upstream.Upstream]
	tls       *tls.Config // nil: plain TCP

	using tally // exchanges that loaded it and still decide by it
}

// shared is a part that several generations may hold.
type shared[T interface{ Close() }] struct {
	part T
	key  string // equal keys: nothing to build anew
	refs *atomic.Int64
}

func share[T interface{ Close() }](part T, key string) *shared[T] {
	s := &shared[T]{part: part, key: key, refs: new(atomic.Int64)}
	s.refs.Store(1)
	return s
}

func (s *shared[T]) close() {
	if s.refs.Add(-1) == 0 {
		s.part.Close()
	}
}

// build makes the generation of cfg beside the running one, old, which may be
// nil. Every problem is reported, and nothing is left behind when there is one,
// nor when it panics, on whatever goroutine.
func (g *Gateway) build(ctx context.Context, cfg *config.Config, old *generation) (gen *generation, err error) {
	defer collectLess()()
	err = errPanicked
	g.panicked(metrics.InReload).Contain(func() { gen, err = g.assemble(ctx, cfg, old) })
	return gen, err
}

// buildGCPercent is for while modules are compiled: that is much garbage in a
// moment, and each collection of it costs processors and stops that those who
// are served feel.
const buildGCPercent = 400

// collectLess lets the heap grow further until restore.
func collectLess() (restore func()) {
	was := debug.SetGCPercent(buildGCPercent)
	if was < 0 || was > buildGCPercent {
		debug.SetGCPercent(was)
	}
	return func() { debug.SetGCPercent(was) }
}

func (g *Gateway) assemble(ctx context.Context, cfg *config.Config, old *generation) (*generation, error) {
	gen := &generation{
		number:    1,
		cfg:       cfg,
		policies:  map[string]*shared[*policy.Policy]{},
		views:     map[string]*policy.View{},
		upstreams: map[string]*shared[*upstream.Upstream]{},
	}
	if old != nil {
		gen.number = old.number + 1
	}
	whole := false
	defer func() {
		if !whole {
			gen.close(g.panicked(metrics.InReload))
		}
	}()
	var problems config.Errors
	note := func(err error) {
		if e, ok := errors.AsType[config.Error](err); ok {
			problems = append(problems, e)
		} else if err != nil {
			problems = append(problems, cfg.At(err.Error()))
		}
	}
	note(gen.loadTLS(old))
	gen.warnOfExpiry(g.log, time.Now())
	for _, name := range slices.Sorted(maps.Keys(cfg.Policies)) {
		note(gen.addPolicy(ctx, g, cfg.Policies[name], old))
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Upstreams)) {
		note(gen.addUpstream(g, cfg.Upstreams[name], old))
	}
	if len(problems) > 0 {
		return nil, problems
	}
	for i := range cfg.Routes {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		gen.addView(&cfg.Routes[i]) // asks the policy, so that publish need not
	}
	whole = true
	return gen, nil
}

func (gen *generation) addPolicy(ctx context.Context, g *Gateway, cfg *config.Policy, old *generation) error {
	key, err := policyKey(cfg)
	if err != nil {
		return err
	}
	if old != nil {
		if s := old.policies[cfg.Name]; s != nil && s.key == key {
			s.refs.Add(1)
			gen.policies[cfg.Name] = s
			return nil
		}
	}
	p, err := policy.Load(ctx, policy.Options{
		Config: *cfg, Log: g.log, Metrics: g.metrics, Background: old != nil, CallTimeout: g.options.CallTimeout, InitTimeout: g.options.InitTimeout,
	})
	if err != nil {
		return policyProblem(gen.cfg, cfg.Name, err)
	}
	gen.policies[cfg.Name] = share(p, key)
	return nil
}

// policyKey is equal for policies that behave alike.
func policyKey(p *config.Policy) (string, error) {
	table, err := json.Marshal(p.Config)
	if err != nil {
		return "", fmt.Errorf("policy %q: config: %w", p.Name, err)
	}
	return fmt.Sprintf("%x %s %s %s %s", sha256.Sum256(p.Bytes), p.Engine, p.OnFault, p.SHA256, table), nil
}

// addView adds the route's view of its policy, or of the native defaults.
func (gen *generation) addView(cfg *config.Route) {
	var p *policy.Policy
	if s := gen.policies[cfg.Policy]; s != nil {
		p = s.part
	}
	gen.views[cfg.Name] = p.View(cfg.Name)
}

func (gen *generation) addUpstream(g *Gateway, cfg *config.Upstream, old *generation) error {
	key := fmt.Sprintf("%+v", *cfg)
	o := upstream.Options{Log: g.log, Faults: g.faults, Loops: g.loops, Spare: g.spare, Panic: g.panicked(metrics.InUpstream, "upstream", cfg.Name)}
	if old != nil {
		s := old.upstreams[cfg.Name]
		switch {
		case s != nil && s.key == key:
			s.refs.Add(1)
			gen.upstreams[cfg.Name] = s
			return nil
		case s != nil:
			o.Before = s.part
		}
	}
	if slices.Contains(cfg.URLs, "demo:") {
		if err := g.startDemo(); err != nil {
			return err
		}
		o.Demo = g.demo.Addr
	}
	u, err := upstream.New(cfg, o)
	if err != nil {
		return upstreamProblem(gen.cfg, cfg.Name, err)
	}
	gen.upstreams[cfg.Name] = share(u, key)
	return nil
}

func (g *Gateway) startDemo() error {
	if g.demo != nil {
		return nil
	}
	d, err := demo.Start(g.log, g.panicked(metrics.InDemo))
	if err != nil {
		return fmt.Errorf("embedded backend: %w", err)
	}
	g.demo = d
	return nil
}

// acquire returns the running generation, which stays whole until release, on
// the same loop.
func (g *Gateway) acquire(loop int) *generation {
	for {
		gen := g.current.Load()
		gen.using.add(loop, 1)
		if g.current.Load() == gen {
			return gen
		}
		gen.release(loop)
	}
}

func (gen *generation) release(loop int) { gen.using.add(loop, -1) }

// retireWait is how long exchanges that began under an old generation may go on
// asking its policies. Those that take longer, streams, have asked already;
// what they still ask is answered from what is cached.
const retireWait = 5 * time.Second

// retire closes an old generation once nobody decides by it any more.
func (g *Gateway) retire(old *generation) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	over := time.After(retireWait)
	for old.using.sum() > 0 {
		select {
		case <-tick.C:
			continue
		case <-over:
		case <-g.stop:
		}
		break
	}
	old.close(g.panicked(metrics.InGateway))
}

// close gives the generation's parts back; those that another generation holds
// live on. A part that panics keeps no other open.
func (gen *generation) close(panicked crash.Report) {
	for _, v := range gen.views {
		panicked.Contain(v.Release)
	}
	for _, p := range gen.policies {
		panicked.Contain(p.close)
	}
	for _, u := range gen.upstreams {
		panicked.Contain(u.close)
	}
}
