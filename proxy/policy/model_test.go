package policy

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"weir/hostabi"
)

// asked is what the guest of the model answered last about one key of one view.
type asked struct {
	class hostabi.Class
	until time.Time // zero: as long as the view
	used  time.Time // looked up
}

// Whatever is asked, expires, is forgotten or fails, in views that come and go: a
// rule that lasts is asked about once, a bound costs an opinion and no more, and
// each place of the cache is one rule of a view that somebody holds.
func TestRulesAreAsTheyWereAnswered(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for round := range 4 {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		answer, last := hostabi.Rule{}, ok
		g := &fakeGuest{classify: func(*hostabi.ClassifyInput) (hostabi.Rule, hostabi.Result) { return answer, last }}
		rg := start(t, g)
		const routes = 3
		var views [routes]*View
		var held [routes]int
		var known [routes]map[string]asked
		crowd := time.Time{} // until then rules that nobody looks up may be forgotten
		lookup := func(i int, d hostabi.Direction, key string) {
			answer = hostabi.Rule{Class: hostabi.Class(r.IntN(2)), MaxSize: uint64(1 + r.IntN(1000))}
			last = []hostabi.Result{ok, ok, ok, forSeconds(uint16(1 + r.IntN(20))), forSeconds(0), noView}[r.IntN(6)]
			calls, unasked, now := g.calls[hostabi.Classify].Load(), rg.unasked.Load(), rg.time.now()
			rule := views[i].Rule(d, []byte(key), nil)
			calls, unasked = g.calls[hostabi.Classify].Load()-calls, rg.unasked.Load()-unasked
			at := fmt.Sprint(d, key)
			e, have := known[i][at]
			fresh := have && (e.until.IsZero() || now.Before(e.until))
			kept := fresh && (!e.used.Add(forgetEvery).Before(crowd) || now.Sub(e.used) < forgetEvery)
			switch {
			case calls == 1:
				if kept {
					t.Fatalf("%s is asked about again", at)
				}
				class := answer.Class
				e = asked{}
				switch {
				case g.trap[hostabi.Classify].Load():
					class, e.until = hostabi.Critical, now.Add(faultTTL)
				case last == noView:
					class = hostabi.Critical
				case last.Cache() != hostabi.CacheGeneration:
					e.until = now.Add(time.Duration(last.Cache()) * time.Second)
				}
				if e.class = class; rule.Class != class {
					t.Fatalf("%s: %v, answered %v", at, rule.Class, class)
				}
			case calls == 0 && fresh && unasked == 0:
				if rule.Class != e.class {
					t.Fatalf("%s: %v, was answered %v", at, rule.Class, e.class)
				}
			case calls == 0 && unasked == 1:
				if kept || rule.Class != hostabi.Critical {
					t.Fatalf("%s is not asked about: %v, known %v", at, rule.Class, have)
				}
				crowd = now.Add(crowdedFor + forgetEvery)
				return
			default:
				t.Fatalf("%s: %d calls, %d not made, known %v", at, calls, unasked, have)
			}
			e.used = now
			known[i][at] = e
		}
		for range 300 {
			i := r.IntN(routes)
			switch {
			case held[i] == 0 || r.IntN(20) == 0:
				if views[i] = rg.View(fmt.Sprint("route ", i)); held[i] == 0 {
					known[i] = map[string]asked{}
				}
				held[i]++
			case r.IntN(40) == 0:
				views[i].Release()
				held[i]--
			case r.IntN(3) == 0:
				rg.time.advance(time.Duration(r.Int64N(int64(time.Second) << r.IntN(6))))
			case r.IntN(30) == 0:
				g.trap[hostabi.Classify].Store(r.IntN(3) == 0)
			case r.IntN(8) == 0:
				for range r.IntN(2000) {
					lookup(i, hostabi.ToClient, fmt.Sprint("new ", r.Uint64()))
				}
			default:
				for range 20 {
					lookup(i, hostabi.Direction(r.IntN(2)), fmt.Sprint("hot ", r.IntN(30)))
				}
			}
			rules := 0
			for i, v := range views {
				for d := range v.tables(held[i] > 0) {
					n := 0
					for s := range v.rules[d].Load().slots {
						if v.rules[d].Load().slots[s].Load() != nil {
							n++
						}
					}
					if n != v.rules[d].Load().used {
						t.Fatalf("%d rules count as %d", n, v.rules[d].Load().used)
					}
					rules += n
				}
			}
			if n := rg.Info().CachedRules; n != rules || n > hostabi.MaxCachedKeys || rg.sum(t, "weir_policy_cached_rules") != n {
				t.Fatalf("%d rules are cached, %d count, %d are told", rules, n, rg.sum(t, "weir_policy_cached_rules"))
			}
		}
	}
}

// tables is how many of the view's count: none when nobody holds it.
func (v *View) tables(held bool) int {
	if !held {
		return 0
	}
	return len(v.rules)
}
