package policy

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"weir/hostabi"
)

// flood asks v about n keys that nobody asked about before, in the name of as
// many tunnels as that takes, and returns how many the policy was asked about.
func flood(v *View, from, n int) (asked int) {
	b := &Budget{}
	for i := range n {
		if i%budgetBurst == 0 {
			b = &Budget{}
		}
		if v.Rule(hostabi.ToUpstream, fmt.Append(nil, "flood ", from+i), b).Class == hostabi.Droppable {
			asked++
		}
	}
	return asked
}

func TestAFullCacheMakesRoom(t *testing.T) {
	g := droppables(ok)
	r := start(t, g)
	v, other := r.View("r"), r.View("other")
	want(t, "asked", flood(v, 0, 70*budgetBurst), hostabi.MaxCachedKeys)
	class := func(key string) hostabi.Class { return other.Rule(hostabi.ToClient, []byte(key), &Budget{}).Class }
	want(t, "while it is full", class("new"), hostabi.Critical)
	r.time.advance(forgetEvery - 1)
	want(t, "just before", class("new"), hostabi.Critical)
	r.time.advance(1)
	class("new") // has unused rules forgotten at the latest
	want(t, "after it", class("new"), hostabi.Droppable)
	want(t, "cached", r.Info().CachedRules, 1)
}

// named has policies name n keys: their messages have a ceiling, all others have none.
func named(n int) *fakeGuest {
	g := &fakeGuest{classify: func(in *hostabi.ClassifyInput) (hostabi.Rule, hostabi.Result) {
		if strings.HasPrefix(string(in.Key), "named ") {
			return hostabi.Rule{MaxSize: 100}, ok
		}
		return hostabi.Rule{Class: hostabi.Droppable}, ok
	}}
	for i := range n {
		g.shape.Prewarm = append(g.shape.Prewarm, fmt.Sprint("named ", i))
	}
	return g
}

// A client that makes up keys takes nobody the rule of a key that the policy names,
// though it has not been in use for long.
func TestAFullCacheKeepsWhatThePolicyNames(t *testing.T) {
	r := start(t, named(1))
	v := r.View("r")
	from := 0
	for range 3 {
		flood(v, from, 70*budgetBurst)
		from += 70 * budgetBurst
		r.time.advance(forgetEvery)
	}
	spent := &Budget{}
	for range budgetBurst {
		spent.Allow(r.time.now())
	}
	want(t, "ceiling", v.Rule(hostabi.ToUpstream, []byte("named 0"), spent).MaxSize, 100)
}

func TestAPolicyThatNamesTooMuchLeavesRoom(t *testing.T) {
	r := start(t, named(maxPrewarm))
	var views []*View
	for i := range hostabi.MaxCachedKeys/(2*maxPrewarm) + 1 {
		views = append(views, r.View(fmt.Sprint(i)))
	}
	want(t, "while it is full", flood(views[0], 0, 1), 0)
	r.time.advance(forgetEvery)
	flood(views[0], 1, 1) // has the marks taken away at the latest
	r.time.advance(forgetEvery)
	flood(views[0], 2, 1)
	want(t, "after it", flood(views[0], 3, 1), 1)
	want(t, "cached", r.Info().CachedRules < hostabi.MaxCachedKeys*3/4, true)
}

// What a rule takes is the host's memory, and not the guest's 16 MiB.
func TestAFullCacheOfLongPointersIsSmall(t *testing.T) {
	g := &fakeGuest{classify: func(in *hostabi.ClassifyInput) (hostabi.Rule, hostabi.Result) {
		n := hostabi.MaxPointer
		if in.Direction == hostabi.ToClient && string(in.Key) != "" && string(in.Key) != probeKey {
			n = (hostabi.MaxOutput - 32) / 2
		}
		return hostabi.Rule{Class: hostabi.Droppable, Unless: strings.Repeat("/", n), Conflate: strings.Repeat("/", n)}, ok
	}}
	v := start(t, g).View("r")
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for i := range hostabi.MaxCachedKeys {
		v.Rule(hostabi.Direction(i%2), fmt.Append(nil, i), nil)
	}
	if held := heap() - before; held > 64<<20 {
		t.Errorf("%d rules hold %d MiB", v.policy.room.used(), held>>20)
	}
	want(t, "the longest", v.Rule(hostabi.ToUpstream, []byte("0"), nil).Class, hostabi.Droppable)
	want(t, "a longer one", v.Rule(hostabi.ToClient, []byte("1"), nil).Class, hostabi.Critical)
}

// A view that all have released keeps what it knows and takes no room for more.
func TestAReleasedViewTakesNoRoom(t *testing.T) {
	g := droppables(ok)
	r := start(t, g)
	v := r.View("r")
	want(t, "view", r.View("r"), v)
	v.Release()
	v.Rule(hostabi.ToUpstream, []byte("known"), nil)
	want(t, "cached while it is held", r.Info().CachedRules, 1)
	v.Release()
	want(t, "cached", r.Info().CachedRules, 0)
	calls := g.calls[hostabi.Classify].Load()
	want(t, "known", v.Rule(hostabi.ToUpstream, []byte("known"), nil).Class, hostabi.Droppable)
	want(t, "new", v.Rule(hostabi.ToUpstream, []byte("new"), nil).Class, hostabi.Critical)
	want(t, "calls", g.calls[hostabi.Classify].Load(), calls)
	want(t, "cached in the end", r.Info().CachedRules, 0)
	if r.View("r") == v {
		t.Error("the view comes back")
	}
	(*Policy)(nil).View("r").Release()

	v = r.View("asking")
	g.classify = func(*hostabi.ClassifyInput) (hostabi.Rule, hostabi.Result) {
		v.Release()
		return hostabi.Rule{Class: hostabi.Droppable}, ok
	}
	want(t, "released while it asks", v.Rule(hostabi.ToUpstream, []byte("k"), nil).Class, hostabi.Droppable)
	want(t, "cached then", r.Info().CachedRules, 0)
}

func TestAFloodOfKeysForgetsNoneInUse(t *testing.T) {
	g := droppables(ok)
	r := start(t, g)
	v := r.View("r")
	for i := range 100 {
		v.Rule(hostabi.ToClient, fmt.Append(nil, i), nil)
	}
	before := g.calls[hostabi.Classify].Load()
	asked := 0
	for second := range 60 {
		asked += flood(v, second*2000, 2000)
		for i := range 100 {
			if v.Cached(hostabi.ToClient, fmt.Append(nil, i)) == nil {
				t.Fatalf("after %d s, key %d is forgotten", second, i)
			}
		}
		r.time.advance(time.Second)
	}
	calls := g.calls[hostabi.Classify].Load() - before
	want(t, "calls", calls, int64(asked))
	if most := int64(hostabi.MaxCachedKeys + crowdBurst + 60*time.Second/crowdRefill); calls > most || calls < most/2 {
		t.Errorf("%d calls in a minute, at most %d are allowed", calls, most)
	}
	if n := r.Info().CachedRules; n > 100+crowdBurst+int(2*forgetEvery/crowdRefill) {
		t.Errorf("%d rules are cached", n)
	}
	r.time.advance(time.Second)
	want(t, "a key behind the flood", v.Rule(hostabi.ToUpstream, []byte("new"), &Budget{}).Class, hostabi.Droppable)
	r.time.advance(crowdedFor)
	want(t, "keys at once, when the crowd is gone", flood(v, 1_000_000, 1000), 1000)
}

// A rule in use that expires in a crowd is asked about anew, in its own place: so is
// one of a key that the policy names, in use or not.
func TestAFloodOfKeysTakesNoPlaceOfWhatExpires(t *testing.T) {
	for _, key := range []string{"in use", "named"} {
		g := droppables(hostabi.MakeResult(0, hostabi.StatusOK, 2))
		if key == "named" {
			g.shape.Prewarm = []string{key}
		}
		r := start(t, g)
		v := r.View("r")
		v.Rule(hostabi.ToClient, []byte(key), nil)
		for second := range 60 {
			flood(v, second*5000, 5000)
			if key == "named" && second%30 != 29 {
				r.time.advance(time.Second)
				continue
			}
			if v.Rule(hostabi.ToClient, []byte(key), &Budget{}).Class != hostabi.Droppable {
				t.Errorf("after %d s, the key that is %s is forgotten", second, key)
				break
			}
			r.time.advance(time.Second)
		}
		if n := r.Info().CachedRules; n < 100 || n > crowdBurst+int(2*forgetEvery/crowdRefill)+2 {
			t.Errorf("%d rules are cached", n)
		}
	}
}

func TestAFullCacheIsTold(t *testing.T) {
	r := start(t, droppables(ok))
	v := r.View("r")
	flood(v, 0, hostabi.MaxCachedKeys)
	want(t, "log before", r.log.all(), "")
	for second := range 60 {
		flood(v, 5000+second*1000, 1000)
		r.time.advance(time.Second)
	}
	want(t, "lines", strings.Count(r.log.all(), "\n"), 1)
	for _, part := range []string{`"level":"WARN"`, `"policy":"p"`, `"keys":4096`, "native default"} {
		if !strings.Contains(r.log.all(), part) {
			t.Errorf("log has no %s: %s", part, r.log.all())
		}
	}
	flood(v, 1_000_000, 1000)
	want(t, "lines a minute later", strings.Count(r.log.all(), "\n"), 2)
	want(t, "unasked", r.sum(t, "weir_policy_unasked_total"), int(r.Info().Unasked))
	want(t, "cached", r.sum(t, "weir_policy_cached_rules"), r.Info().CachedRules)
	r.set.Policy("p") // of another generation, which shares them
	r.Close()
	want(t, "cached when closed", r.sum(t, "weir_policy_cached_rules"), 0)
}

// sum is the value of a metric of the policy.
func (r *rig) sum(t *testing.T, name string) int {
	t.Helper()
	families, err := r.set.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return int(m.GetGauge().GetValue() + m.GetCounter().GetValue())
		}
	}
	t.Fatalf("no %s", name)
	return 0
}
