// Package policytest makes policies out of Go functions, for tests of what
// applies them.
package policytest

import (
	"log/slog"
	"testing"

	"weir/hostabi"
	"weir/hostabi/wasmhost"
	"weir/proxy/config"
	"weir/proxy/policy"
)

// Funcs are the hooks of a policy; one that is nil is not exported. An ok of
// false is no opinion.
type Funcs struct {
	Shape    hostabi.Shape
	Classify func(in *hostabi.ClassifyInput) (out hostabi.Rule, ok bool)
	Seconds  hostabi.Cacheability // that a rule lasts; 0: as long as the policy
	Error    func(in *hostabi.ErrorInput) (out hostabi.ErrorOutput, ok bool)
}

// New returns the policy that f describes. It is closed with the test.
func New(t testing.TB, f Funcs) *policy.Policy {
	t.Helper()
	o := policy.Options{Config: config.Policy{Name: "test"}, Log: slog.New(slog.DiscardHandler)}
	p, err := policy.LoadGuest(t.Context(), o, &guest{f})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

type guest struct{ f Funcs }

func (g *guest) Shape() []byte { return g.f.Shape.AppendTo(nil) }

func (g *guest) Has(h hostabi.Hook) bool {
	switch h {
	case hostabi.Configure:
		return true
	case hostabi.Classify:
		return g.f.Classify != nil
	case hostabi.ErrorHook:
		return g.f.Error != nil
	}
	return false
}

func (g *guest) Ask(h hostabi.Hook, who wasmhost.Caller) ([]byte, hostabi.Result, error) {
	in, out := who.Input()
	switch h {
	case hostabi.Classify:
		var i hostabi.ClassifyInput
		if err := i.Decode(in); err != nil {
			return nil, 0, err
		}
		o, ok := g.f.Classify(&i)
		b, r, err := answer(&o, ok, out)
		if g.f.Seconds > 0 {
			r = hostabi.MakeResult(0, r.Status(), g.f.Seconds)
		}
		return b, r, err
	case hostabi.ErrorHook:
		var i hostabi.ErrorInput
		if err := i.Decode(in); err != nil {
			return nil, 0, err
		}
		o, ok := g.f.Error(&i)
		return answer(&o, ok, out)
	}
	return answer(&hostabi.Rule{}, false, out)
}

func answer(o interface{ AppendTo([]byte) []byte }, ok bool, out []byte) ([]byte, hostabi.Result, error) {
	if !ok {
		return out[:0], hostabi.MakeResult(0, hostabi.StatusNoOpinion, hostabi.CacheGeneration), nil
	}
	return o.AppendTo(out[:0]), hostabi.MakeResult(0, hostabi.StatusOK, hostabi.CacheGeneration), nil
}

func (g *guest) Info() wasmhost.Info {
	return wasmhost.Info{Engine: "go", Instances: 1, Breaker: "closed"}
}
func (g *guest) Close() {}
