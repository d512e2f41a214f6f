package wasmhost

import (
	"testing"
	"time"
)

func TestBreaker(t *testing.T) {
	zero := time.Unix(0, 0)
	type step struct {
		at   time.Duration
		do   string // "ok" and "bad" are calls, "no" is one not allowed, "none" one that never reached the guest
		then string
	}
	bad := func(at time.Duration, then string) step { return step{at, "bad", then} }
	open := []step{bad(0, "closed"), bad(0, "closed"), bad(0, "closed"), bad(0, "closed"), bad(0, "open")}
	for name, steps := range map[string][]step{
		"a success in between": append(append(open[:4:4], step{0, "ok", "closed"}), open[:4]...),
		"refuses while open":   append(open[:5:5], step{time.Second - 1, "no", "open"}),
		"a good trial closes":  append(open[:5:5], step{time.Second, "ok", "closed"}, bad(time.Second, "closed")),
		"a bad trial doubles": append(
			open[:5:5], bad(time.Second, "open"), step{3*time.Second - 1, "no", "open"}, step{3 * time.Second, "ok", "closed"}),
		"a trial that never was": append(open[:5:5], step{time.Second, "none", "half-open"}, step{time.Second, "ok", "closed"}),
	} {
		b := newBreaker()
		for i, s := range steps {
			now := zero.Add(s.at)
			got, trial := b.allow(now)
			if want := s.do != "no"; got != want {
				t.Fatalf("%s: step %d is allowed: %v", name, i, got)
			}
			switch s.do {
			case "ok":
				b.success(trial)
			case "bad":
				b.failure(now, trial)
			case "none":
				b.cancel(trial)
			}
			if got := b.state(now); got != s.then {
				t.Fatalf("%s: after step %d it is %s, want %s", name, i, got, s.then)
			}
		}
	}
}

func TestBreakerOpenTimeIsBounded(t *testing.T) {
	b, now, longest := newBreaker(), time.Unix(0, 0), time.Duration(0)
	for range 20 {
		if ok, trial := b.allow(now); ok {
			_, wait := b.failure(now, trial)
			longest = max(longest, wait)
		}
		now = now.Add(breakerMax)
	}
	if longest != breakerMax {
		t.Errorf("open for %v, want %v", longest, breakerMax)
	}
}

func TestBreakerHasOneTrial(t *testing.T) {
	b, now := newBreaker(), time.Unix(0, 0)
	for range breakerFaults {
		b.failure(now, false)
	}
	now = now.Add(breakerFirst)
	first, trial := b.allow(now)
	second, _ := b.allow(now)
	if !first || !trial || second || b.state(now) != "half-open" {
		t.Error("not exactly one trial")
	}
}

// A call may take 10 s until what it missed is compiled, and end in a later trial.
func TestACallFromBeforeTheBreakerOpenedDecidesNoTrial(t *testing.T) {
	for name, straggles := range map[string]func(b *breaker, now time.Time){
		"answers":           func(b *breaker, _ time.Time) { b.success(false) },
		"fails":             func(b *breaker, now time.Time) { b.failure(now, false) },
		"never got a guest": func(b *breaker, _ time.Time) { b.cancel(false) },
	} {
		b, now := newBreaker(), time.Unix(0, 0)
		for range breakerFaults {
			b.failure(now, false)
		}
		now = now.Add(breakerFirst)
		if ok, trial := b.allow(now); !ok || !trial {
			t.Fatalf("%s: no trial", name)
		}
		straggles(b, now)
		if ok, _ := b.allow(now); ok || b.state(now) != "half-open" {
			t.Errorf("%s: it is %s, and another call is allowed: %v", name, b.state(now), ok)
		}
		b.success(true)
		if got := b.state(now); got != "closed" {
			t.Errorf("%s: after the trial's success it is %s", name, got)
		}
	}
}
