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
			if got, want := b.allow(now), s.do != "no"; got != want {
				t.Fatalf("%s: step %d is allowed: %v", name, i, got)
			}
			switch s.do {
			case "ok":
				b.success()
			case "bad":
				b.failure(now)
			case "none":
				b.cancel()
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
		if b.allow(now) {
			_, wait := b.failure(now)
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
		b.failure(now)
	}
	now = now.Add(breakerFirst)
	if !b.allow(now) || b.allow(now) || b.state(now) != "half-open" {
		t.Error("not exactly one trial")
	}
}
