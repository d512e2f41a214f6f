package policy

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
)

// droppables is a guest that calls every key droppable, for as long as r says.
func droppables(r hostabi.Result) *fakeGuest {
	return &fakeGuest{classify: func(in *hostabi.ClassifyInput) (hostabi.Rule, hostabi.Result) {
		return hostabi.Rule{Class: hostabi.Droppable, Priority: uint8(len(in.Key))}, r
	}}
}

func TestRuleCarriesWhatThePolicySays(t *testing.T) {
	g := &fakeGuest{classify: func(in *hostabi.ClassifyInput) (hostabi.Rule, hostabi.Result) {
		switch string(in.Key) {
		case "cursor":
			return hostabi.Rule{Class: hostabi.Droppable, Unless: "/seq", Conflate: "/user", Priority: 3, MaxSize: 100}, ok
		case "huge":
			return hostabi.Rule{MaxSize: 1 << 63}, ok
		case "here":
			if in.Route == "chat" && in.Direction == hostabi.ToClient {
				return hostabi.Rule{Class: hostabi.Droppable}, ok
			}
		}
		return hostabi.Rule{Class: hostabi.Droppable}, noView
	}}
	v := start(t, g).View("chat")
	r := v.Rule(hostabi.ToUpstream, []byte("cursor"), nil)
	want(t, "class", r.Class, hostabi.Droppable)
	want(t, "unless", r.Unless.String(), "/seq")
	want(t, "conflate", r.Conflate.String(), "/user")
	want(t, "priority", r.Priority, 3)
	want(t, "max size", r.MaxSize, 100)
	want(t, "max size beyond int64", v.Rule(hostabi.ToUpstream, []byte("huge"), nil).MaxSize, 1<<63-1)
	want(t, "to the client", v.Rule(hostabi.ToClient, []byte("here"), nil).Class, hostabi.Droppable)
	want(t, "to the upstream", v.Rule(hostabi.ToUpstream, []byte("here"), nil).Class, hostabi.Critical)
	want(t, "no opinion", v.Rule(hostabi.ToClient, nil, nil).Class, hostabi.Critical)
	want(t, "unless of the default", v.Rule(hostabi.ToClient, nil, nil).Unless.IsZero(), true)
}

func TestRulesAreCachedAsLongAsThePolicySays(t *testing.T) {
	for _, c := range []struct {
		name   string
		result hostabi.Result
		asked  [4]int64 // calls after asking at once, again, after 9 s, and after 11 s
		cached int
	}{
		{"for the generation", ok, [4]int64{1, 1, 1, 1}, 1},
		{"for ten seconds", forSeconds(10), [4]int64{1, 1, 1, 2}, 1},
		{"not at all", forSeconds(0), [4]int64{1, 2, 3, 4}, 0},
		{"no opinion", noView, [4]int64{1, 1, 1, 1}, 1},
	} {
		g := droppables(c.result)
		r := start(t, g)
		v := r.View("r")
		class := hostabi.Droppable
		if c.result == noView {
			class = hostabi.Critical
		}
		for i, wait := range []time.Duration{0, 0, 9 * time.Second, 2 * time.Second} {
			r.time.advance(wait)
			want(t, c.name, v.Rule(hostabi.ToUpstream, []byte("k"), nil).Class, class)
			want(t, fmt.Sprint(c.name, ": calls at step ", i), g.calls[hostabi.Classify].Load(), c.asked[i])
		}
		want(t, c.name+": cached", r.Info().CachedRules, c.cached)
	}
}

func TestPrewarmedKeysAreNotAskedFor(t *testing.T) {
	g := droppables(ok)
	g.shape.Prewarm = []string{"a", "b"}
	r := start(t, g)
	v := r.View("r")
	want(t, "calls to prewarm", g.calls[hostabi.Classify].Load(), 4)
	for _, k := range []string{"a", "b"} {
		v.Rule(hostabi.ToUpstream, []byte(k), nil)
		v.Rule(hostabi.ToClient, []byte(k), nil)
	}
	want(t, "calls", g.calls[hostabi.Classify].Load(), 4)
	if r.View("r") != v {
		t.Error("a route has two views")
	}
	if r.View("other") == v {
		t.Error("two routes share a view")
	}
}

func TestPrewarmingIsPatient(t *testing.T) {
	g := droppables(ok)
	g.shape.Prewarm = []string{"a"}
	r := start(t, g)
	g.late[hostabi.Classify].Store(2)
	v := r.View("r")
	want(t, "class", v.Rule(hostabi.ToUpstream, []byte("a"), nil).Class, hostabi.Droppable)
	want(t, "calls", g.calls[hostabi.Classify].Load(), 4)
}

// A policy that takes its time holds up a reload, for one that heals it to wait behind,
// for so long and no more, however many routes there are. What it was not asked ahead
// it is asked when that is needed.
func TestAskingAheadIsBounded(t *testing.T) {
	const calls = 1000
	g := droppables(ok)
	own := hostabi.ErrorOutput{Template: `{"own":true}`}
	g.envelope = func(*hostabi.ErrorInput) (hostabi.ErrorOutput, hostabi.Result) { return own, ok }
	r := start(t, g)
	for i := range maxPrewarm {
		r.shape.Prewarm = append(r.shape.Prewarm, fmt.Sprint(i))
	}
	rule, envelope := g.classify, g.envelope
	g.classify = func(in *hostabi.ClassifyInput) (hostabi.Rule, hostabi.Result) {
		r.time.advance(aheadFor / calls)
		return rule(in)
	}
	g.envelope = func(in *hostabi.ErrorInput) (hostabi.ErrorOutput, hostabi.Result) {
		r.time.advance(aheadFor / calls)
		return envelope(in)
	}
	asked := func() int64 { return g.calls[hostabi.Classify].Load() + g.calls[hostabi.ErrorHook].Load() }
	r.View("first")
	if n := asked(); n < 2*maxPrewarm || n >= calls {
		t.Errorf("%d calls for one route", n)
	}
	r.View("second")
	v := r.View("third")
	if n := asked(); n > calls+2 {
		t.Errorf("%d calls for three routes", n)
	}
	want(t, "a key that is not warm", v.Rule(hostabi.ToUpstream, []byte("0"), nil).Class, hostabi.Droppable)
	filled := func() string {
		return string(v.Envelope(hostabi.RateLimited, hostabi.WebSocket, hostabi.ToUpstream).Append(nil, &Values{}))
	}
	if got := filled(); got == own.Template {
		t.Error("the envelope of the third route was asked for")
	}
	r.behind.Wait()
	want(t, "an envelope that was used", filled(), own.Template)
	r.time.advance(aheadEvery)
	v = r.View("of a later generation")
	want(t, "a later envelope", filled(), own.Template)
}

func TestLongKeysAreNotAskedFor(t *testing.T) {
	g := droppables(ok)
	r := start(t, g)
	v := r.View("r")
	key := make([]byte, hostabi.MaxEventKey+1)
	want(t, "too long", v.Rule(hostabi.ToUpstream, key, nil).Class, hostabi.Critical)
	want(t, "calls", g.calls[hostabi.Classify].Load(), 0)
	want(t, "longest", v.Rule(hostabi.ToUpstream, key[1:], nil).Class, hostabi.Droppable)
	want(t, "unasked", r.Info().Unasked, 1)
}

func TestCacheIsFullAtMaxCachedKeys(t *testing.T) {
	g := droppables(ok)
	r := start(t, g)
	a, b := r.View("a"), r.View("b")
	for i := range hostabi.MaxCachedKeys {
		v := a
		if i%2 == 0 {
			v = b
		}
		if v.Rule(hostabi.Direction(i/2%2), fmt.Append(nil, i), nil).Class != hostabi.Droppable {
			t.Fatalf("key %d is not asked for", i)
		}
	}
	calls := g.calls[hostabi.Classify].Load()
	want(t, "one more", a.Rule(hostabi.ToUpstream, []byte("more"), nil).Class, hostabi.Critical)
	want(t, "calls for it", g.calls[hostabi.Classify].Load(), calls)
	want(t, "unasked", r.Info().Unasked, 1)
	want(t, "cached", r.Info().CachedRules, hostabi.MaxCachedKeys)
	for i := range hostabi.MaxCachedKeys {
		v := a
		if i%2 == 0 {
			v = b
		}
		if v.Rule(hostabi.Direction(i/2%2), fmt.Append(nil, i), nil).Class != hostabi.Droppable {
			t.Fatalf("key %d was lost", i)
		}
	}
	want(t, "calls for what is cached", g.calls[hostabi.Classify].Load(), calls)
}

func TestExpiredRulesMakeRoom(t *testing.T) {
	g := droppables(forSeconds(5))
	r := start(t, g)
	a, b := r.View("a"), r.View("b")
	for i := range hostabi.MaxCachedKeys {
		a.Rule(hostabi.ToUpstream, fmt.Append(nil, i), nil)
	}
	r.time.advance(6 * time.Second)
	b.Rule(hostabi.ToUpstream, []byte("x"), nil) // finds the cache full, and takes the marks away
	r.time.advance(forgetEvery)
	b.Rule(hostabi.ToUpstream, []byte("x"), nil) // and has them forgotten at the latest
	want(t, "after the sweep", b.Rule(hostabi.ToUpstream, []byte("x"), nil).Class, hostabi.Droppable)
	want(t, "cached", r.Info().CachedRules, 1)
	want(t, "an old key", a.Rule(hostabi.ToUpstream, []byte("7"), nil).Class, hostabi.Droppable)
	want(t, "cached", r.Info().CachedRules, 2)
}

func TestClassifyFallsBackToCritical(t *testing.T) {
	for _, c := range []struct {
		name, result string
		break_       func(*fakeGuest)
	}{
		{"trap", "trap", func(g *fakeGuest) { g.trap[hostabi.Classify].Store(true) }},
		{"timeout", "timeout", func(g *fakeGuest) { g.late[hostabi.Classify].Store(1 << 20) }},
		{"cut off", "output", func(g *fakeGuest) { g.raw[hostabi.Classify] = []byte{1} }},
		{"bad pointer", "output", func(g *fakeGuest) { g.raw[hostabi.Classify] = (&hostabi.Rule{Unless: "seq"}).AppendTo(nil) }},
		{"bad conflate", "output", func(g *fakeGuest) { g.raw[hostabi.Classify] = (&hostabi.Rule{Conflate: "/~"}).AppendTo(nil) }},
		{"long pointer", "output", func(g *fakeGuest) {
			g.raw[hostabi.Classify] = (&hostabi.Rule{Unless: "/" + strings.Repeat("k", hostabi.MaxPointer)}).AppendTo(nil)
		}},
		{"bad input", "bad_input", func(g *fakeGuest) {
			g.classify = func(*hostabi.ClassifyInput) (hostabi.Rule, hostabi.Result) {
				return hostabi.Rule{Class: hostabi.Droppable}, hostabi.MakeResult(0, hostabi.StatusBadInput, hostabi.CacheGeneration)
			}
		}},
		{"the guest's own", "guest", func(g *fakeGuest) {
			g.classify = func(*hostabi.ClassifyInput) (hostabi.Rule, hostabi.Result) {
				return hostabi.Rule{Class: hostabi.Droppable}, hostabi.MakeResult(0, hostabi.StatusGuest, hostabi.CacheGeneration)
			}
		}},
	} {
		g := droppables(ok)
		r := start(t, g)
		v := r.View("r")
		v.Rule(hostabi.ToUpstream, []byte("before"), nil)
		good, classify := g.calls[hostabi.Classify].Load(), g.classify
		c.break_(g)
		for range 10 {
			want(t, c.name, v.Rule(hostabi.ToUpstream, []byte("k"), nil).Class, hostabi.Critical)
		}
		want(t, c.name+": calls", g.calls[hostabi.Classify].Load()-good, 1)
		want(t, c.name+": counted", r.counted(t, hostabi.Classify, c.result), 1)
		want(t, c.name+": what was known", v.Rule(hostabi.ToUpstream, []byte("before"), nil).Class, hostabi.Droppable)
		for _, part := range []string{`"policy":"p"`, `"hook":"classify"`, `"result":"` + c.result + `"`} {
			if !strings.Contains(r.log.all(), part) {
				t.Errorf("%s: log has no %s: %s", c.name, part, r.log.all())
			}
		}
		g.trap[hostabi.Classify].Store(false)
		g.late[hostabi.Classify].Store(0)
		g.raw[hostabi.Classify], g.classify = nil, classify
		r.time.advance(faultTTL)
		want(t, c.name+": healed", v.Rule(hostabi.ToUpstream, []byte("k"), nil).Class, hostabi.Droppable)
	}
}

func TestFaultLogIsLimitedAndCountsWhatItLeftOut(t *testing.T) {
	g := droppables(ok)
	r := start(t, g)
	v := r.View("r")
	g.trap[hostabi.Classify].Store(true)
	for i := range 100 {
		v.Rule(hostabi.ToUpstream, fmt.Append(nil, i), nil)
	}
	want(t, "lines", strings.Count(r.log.all(), "\n"), 1)
	r.time.advance(reportEvery)
	v.Rule(hostabi.ToUpstream, []byte("later"), nil)
	want(t, "lines", strings.Count(r.log.all(), "\n"), 2)
	if !strings.Contains(r.log.all(), `"suppressed":99`) {
		t.Error(r.log.all())
	}
	v.Rule(hostabi.ToUpstream, []byte("last"), nil)
	r.Close()
	if !strings.Contains(r.log.all(), `"suppressed":1}`) {
		t.Error(r.log.all())
	}
}

func TestBudgetBoundsMisses(t *testing.T) {
	g := droppables(ok)
	r := start(t, g)
	v := r.View("r")
	var mine, other Budget
	droppable := func(b *Budget, from, n int) (got int) {
		for i := range n {
			if v.Rule(hostabi.ToUpstream, fmt.Append(nil, from+i), b).Class == hostabi.Droppable {
				got++
			}
		}
		return got
	}
	want(t, "at once", droppable(&mine, 0, 1000), budgetBurst)
	want(t, "unasked", r.Info().Unasked, 1000-budgetBurst)
	want(t, "what is cached is free", droppable(&mine, 0, budgetBurst), budgetBurst)
	r.time.advance(3 * time.Second)
	want(t, "after three seconds", droppable(&mine, 2000, 1000), 3)
	want(t, "another tunnel", droppable(&other, 3000, 10), 10)
	r.time.advance(time.Hour)
	want(t, "after an hour", droppable(&mine, 4000, 1000), budgetBurst)
}

func TestNothingIsAskedForConstantAndMissingHooks(t *testing.T) {
	constant := droppables(ok)
	constant.admit = func(*hostabi.AdmitInput) (hostabi.AdmitOutput, hostabi.Result) {
		return hostabi.AdmitOutput{Deny: true}, ok
	}
	constant.framing = func(*hostabi.FramingInput) (hostabi.FramingOutput, hostabi.Result) {
		return hostabi.FramingOutput{Client: hostabi.FramedV1}, ok
	}
	constant.fault = func(*hostabi.FaultInput) (hostabi.FaultOutput, hostabi.Result) {
		return hostabi.FaultOutput{Retryable: true}, ok
	}
	constant.shape.Constant = []hostabi.Hook{hostabi.Classify, hostabi.Admit, hostabi.FramingHook, hostabi.FaultHook, hostabi.ErrorHook}
	for name, v := range map[string]*View{
		"constant": start(t, constant).View("r"),
		"missing":  start(t, &fakeGuest{}).View("r"),
		"native":   (*Policy)(nil).View("r"),
	} {
		want(t, name+" rule", v.Rule(hostabi.ToClient, []byte("k"), nil).Class, hostabi.Critical)
		want(t, name+" needs admit", v.NeedsAdmit(), false)
		want(t, name+" admit", admit(v, &hostabi.AdmitInput{}), hostabi.AdmitOutput{})
		want(t, name+" needs framing", v.NeedsFraming(), false)
		want(t, name+" framing", v.Framing(nil, &hostabi.FramingInput{}), hostabi.FramingOutput{})
		want(t, name+" permanent", v.Fault(hostabi.PayloadTooLarge), Fault{})
		want(t, name+" retryable", v.Fault(hostabi.InboxFull), Fault{Retryable: true})
		want(t, name+" upstream 400", v.UpstreamFault(&hostabi.FaultInput{Status: 400}), Fault{})
		want(t, name+" upstream 503", v.UpstreamFault(&hostabi.FaultInput{Status: 503}), Fault{Retryable: true})
		if v.Key() != nil || v.Keep() != nil || v.AdmitHeaders() != nil || v.FramingHeaders() != nil || v.ErrorTypeHeader() != "" {
			t.Errorf("%s: a shape without one", name)
		}
	}
	for h := range constant.calls {
		want(t, fmt.Sprint("calls of ", hostabi.Hook(h)), constant.calls[h].Load(), 0)
	}
}

func TestConcurrentMissesAskOnce(t *testing.T) {
	g := droppables(ok)
	v := start(t, g).View("r")
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		g.hold.Store(&hold)
		for range 16 {
			go func() { want(t, "class", v.Rule(hostabi.ToClient, []byte("k"), nil).Class, hostabi.Droppable) }()
		}
		synctest.Wait()
		want(t, "calls", g.calls[hostabi.Classify].Load(), 1)
		want(t, "flights", len(v.flights), 1)
		close(hold)
		synctest.Wait()
		want(t, "flights at the end", len(v.flights), 0)
	})
	want(t, "calls", g.calls[hostabi.Classify].Load(), 1)
}

func TestCloseLeavesViewsUsable(t *testing.T) {
	g := droppables(ok)
	g.admit = func(*hostabi.AdmitInput) (hostabi.AdmitOutput, hostabi.Result) { return hostabi.AdmitOutput{}, ok }
	g.fault = func(*hostabi.FaultInput) (hostabi.FaultOutput, hostabi.Result) {
		return hostabi.FaultOutput{Retryable: true, RetryAfterMS: 5}, forSeconds(1)
	}
	g.envelope = errorsWith(hostabi.ErrorOutput{Template: "{}"}).envelope
	r := start(t, g)
	v := r.View("r")
	v.Rule(hostabi.ToUpstream, []byte("known"), nil)
	g.classify = func(*hostabi.ClassifyInput) (hostabi.Rule, hostabi.Result) {
		return hostabi.Rule{Class: hostabi.Droppable}, forSeconds(1)
	}
	v.Rule(hostabi.ToUpstream, []byte("old"), nil)
	r.set.Policy("p") // of another generation, which shares them
	r.Close()
	r.Close()
	r.time.advance(time.Minute)
	calls := g.Info().Calls
	want(t, "known", v.Rule(hostabi.ToUpstream, []byte("known"), nil).Class, hostabi.Droppable)
	want(t, "out of date", v.Rule(hostabi.ToUpstream, []byte("old"), nil).Class, hostabi.Droppable)
	want(t, "unknown", v.Rule(hostabi.ToUpstream, []byte("new"), nil).Class, hostabi.Critical)
	want(t, "fault", v.Fault(hostabi.NoRoute), Fault{Retryable: true, RetryAfter: 5 * time.Millisecond})
	want(t, "upstream's fault", v.UpstreamFault(&hostabi.FaultInput{Status: 404}), Fault{})
	long := hostabi.FaultInput{Status: 404, ErrorType: strings.Repeat("t", maxErrorType+1)}
	want(t, "upstream's fault of a long type", v.UpstreamFault(&long), Fault{})
	want(t, "envelope", string(v.Envelope(hostabi.NoRoute, hostabi.HTTP, 0).Append(nil, &Values{})), "{}")
	want(t, "calls", g.Info().Calls, calls)
	want(t, "admit", admit(v, &hostabi.AdmitInput{}).Code, hostabi.PolicyFailed)
	want(t, "instances", r.sum(t, "weir_policy_instances"), 0)
	want(t, "log", r.log.all(), "")
}

func TestHammer(t *testing.T) {
	g := droppables(ok)
	g.shape.Prewarm = []string{"0", "1"}
	g.classify = func(in *hostabi.ClassifyInput) (hostabi.Rule, hostabi.Result) {
		return hostabi.Rule{Class: hostabi.Droppable}, hostabi.MakeResult(0, hostabi.StatusOK, []hostabi.Cacheability{hostabi.CacheGeneration, 1, 0}[len(in.Key)%3])
	}
	g.fault = func(*hostabi.FaultInput) (hostabi.FaultOutput, hostabi.Result) {
		return hostabi.FaultOutput{}, forSeconds(1)
	}
	g.framing = func(*hostabi.FramingInput) (hostabi.FramingOutput, hostabi.Result) {
		return hostabi.FramingOutput{}, ok
	}
	g.envelope = errorsWith(hostabi.ErrorOutput{Template: `{"c":{{code}}}`}).envelope
	r := start(t, g, func(c *config.Policy) { c.OnFault = "open" })
	r.View("a") // while b comes and goes
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			var b Budget
			var dst []byte
			for i := range 2000 {
				v := r.View([]string{"a", "b"}[i%2])
				v.Rule(hostabi.Direction(i%2), fmt.Append(nil, i*n%500), &b)
				v.Fault(hostabi.InboxFull)
				v.UpstreamFault(&hostabi.FaultInput{Status: uint16(400 + i%300)})
				v.Framing(nil, &hostabi.FramingInput{Path: fmt.Sprint(i % 300)})
				dst = v.Envelope(hostabi.InboxFull, hostabi.WebSocket, 0).Append(dst[:0], &Values{})
				v.Release()
				switch i % 500 {
				case 100:
					g.trap[i%hostabi.NumHooks].Store(true)
				case 200:
					for h := range g.trap {
						g.trap[h].Store(false)
					}
				case 300:
					r.time.advance(time.Second)
				}
				if n == 0 && i == 1800 {
					r.Close()
				}
			}
		})
	}
	all.Wait()
	want(t, "views", len(r.views), 1)
	rules := 0
	for _, v := range r.views {
		want(t, "flights", len(v.flights), 0)
		for d := range v.rules {
			rules += v.rules[d].Load().used
		}
	}
	want(t, "cached", r.Info().CachedRules, rules)
}

func TestRuleHitAllocatesNothing(t *testing.T) {
	v := start(t, droppables(ok)).View("r")
	key := []byte("presence")
	var b Budget
	for i := range 100 {
		v.Rule(hostabi.ToClient, fmt.Append(nil, i), nil)
	}
	v.Rule(hostabi.ToClient, key, &b)
	want(t, "allocations", testing.AllocsPerRun(1000, func() { v.Rule(hostabi.ToClient, key, &b) }), 0)
	native := (*Policy)(nil).View("r")
	want(t, "allocations natively", testing.AllocsPerRun(1000, func() { native.Rule(hostabi.ToClient, key, &b) }), 0)
}

func BenchmarkRule(b *testing.B) {
	for _, n := range []int{1, 8, 100, hostabi.MaxCachedKeys} {
		b.Run(fmt.Sprint("hit/", n), func(b *testing.B) {
			v := start(b, droppables(ok)).View("r")
			for i := range n - 1 {
				v.Rule(hostabi.ToClient, fmt.Append(nil, i), nil)
			}
			key := []byte("presence_update")
			v.Rule(hostabi.ToClient, key, nil)
			var budget Budget
			b.ReportAllocs()
			for b.Loop() {
				v.Rule(hostabi.ToClient, key, &budget)
			}
		})
	}
	b.Run("fill", func(b *testing.B) {
		g := droppables(ok)
		for b.Loop() {
			v := start(b, g).View("r")
			for i := range hostabi.MaxCachedKeys {
				v.Rule(hostabi.ToClient, fmt.Append(nil, i), nil)
			}
		}
	})
	b.Run("unasked", func(b *testing.B) {
		v := start(b, droppables(ok)).View("r")
		var budget Budget
		for i := range 100 {
			v.Rule(hostabi.ToClient, fmt.Append(nil, i), &budget)
		}
		key := []byte("never seen")
		b.ReportAllocs()
		for b.Loop() {
			v.Rule(hostabi.ToClient, key, &budget)
		}
	})
}
