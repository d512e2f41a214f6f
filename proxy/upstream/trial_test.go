package upstream

import (
	"testing"
	"time"

	"weir/proxy/config"
)

// The one behind a target that is down would else take its turns besides its own.
func TestTurnsOfATargetThatIsDownAreShared(t *testing.T) {
	for _, balance := range []string{"round_robin", "least_connections"} {
		u := to(t, config.Upstream{Balance: balance}, "http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3", "http://127.0.0.1:4")
		u.targets[0].unhealthy.Store(true)
		turns := map[*target]int{}
		for range 12 {
			picked, _ := u.pick(u.targets[3:])
			turns[picked]++
		}
		if turns[u.targets[1]] != 6 || turns[u.targets[2]] != 6 {
			t.Errorf("%s: of 12 turns the two that are up had %d and %d", balance, turns[u.targets[1]], turns[u.targets[2]])
		}
	}
}

// All of them would else wait for a target that is still gone, each time that it may be
// back.
func TestOneExchangeTriesATargetThatWasDown(t *testing.T) {
	down, up := refusing(t), counting(t)
	for _, balance := range []string{"round_robin", "least_connections"} {
		u := to(t, config.Upstream{Balance: balance, ConnectTimeout: time.Minute}, down, up)
		tried := func() (n int) {
			for range 10 {
				if got, _ := u.pick(nil); got == u.targets[0] {
					n++
				}
			}
			return n
		}
		at := time.Now().Add(-time.Hour)
		aside := func() { // for a time that is over
			at = at.Add(time.Minute)
			u.targets[0].connectFailed(at, at)
		}
		if aside(); tried() != 1 || tried() != 0 {
			t.Errorf("%s: not one of many tried what was down", balance)
		}
		if aside(); tried() != 1 {
			t.Errorf("%s: not one tried what was down a second time", balance)
		}
		u.targets[0].givenUp()
		if !u.targets[0].picked(time.Now(), 0) {
			t.Errorf("%s: no trial where none is under way", balance)
		}
		if tried() != 1 {
			t.Errorf("%s: nobody tried after one that never did", balance)
		}
		u.targets[0].givenUp()
		if tried() != 1 {
			t.Errorf("%s: nobody tried at once after one that was given up", balance)
		}
		u.targets[0].connected()
		if n := tried(); n < 5 {
			t.Errorf("%s: %d of 10 turns for a target that is back", balance, n)
		}
	}
}

// A connection that was kept says nothing of whether others can be made.
func TestATargetThatWasDownIsConnectedTo(t *testing.T) {
	u := to(t, config.Upstream{}, counting(t), counting(t))
	u.targets[1].unhealthy.Store(true)
	expectFetch(t, u, request("/", nil), "1")
	expectFetch(t, u, request("/", nil), "1")
	u.targets[0].connectFailed(longAgo, longAgo)
	expectFetch(t, u, request("/", nil), "2")
	if u.targets[0].downUntil.Load() != nil {
		t.Error("not known to be back")
	}
}

// What answers on the connections that it has needs no new one: were it asked for one
// each time that it may be back, requests would fail that need not.
func TestTheOnlyTargetServesOnWhatIsKept(t *testing.T) {
	u := to(t, config.Upstream{}, counting(t))
	expectFetch(t, u, request("/", nil), "1")
	u.targets[0].connectFailed(longAgo, longAgo)
	expectFetch(t, u, request("/", nil), "1")
}

// Nor do those that come while one finds out.
func TestWhoDoesNotTryServesOnWhatIsKept(t *testing.T) {
	u := to(t, config.Upstream{ConnectTimeout: time.Minute}, counting(t), refusing(t))
	u.targets[1].unhealthy.Store(true)
	expectFetch(t, u, request("/", nil), "1")
	u.targets[0].connectFailed(longAgo, longAgo)
	if got, trial := u.pick(nil); got != u.targets[0] || !trial {
		t.Error("nobody tries")
	}
	expectFetch(t, u, request("/", nil), "1")
}

// One that has met a target which is still gone would else try others that were, and
// fail for want of retries though there is one that works.
func TestWhatIsTriedAgainTriesNothingElse(t *testing.T) {
	for _, balance := range []string{"round_robin", "least_connections"} {
		u := to(t, config.Upstream{Balance: balance, Retries: 1}, refusing(t), refusing(t), counting(t))
		for range 10 {
			for _, gone := range u.targets[:2] { // again and again
				gone.connected()
				gone.connectFailed(longAgo, longAgo)
			}
			r := request("/", nil)
			r.Retryable = func(Kind) bool { return true }
			if _, err := fetch(u, r); err != nil {
				t.Errorf("%s: %v", balance, err)
			}
		}
	}
}

// But better one that may be back than one that is not.
func TestWhatIsTriedAgainTriesWhatMayBeBack(t *testing.T) {
	u := to(t, config.Upstream{}, refusing(t), refusing(t), refusing(t))
	u.targets[1].connectFailed(longAgo, longAgo)
	u.targets[2].connectFailed(time.Now(), time.Now())
	for range 4 {
		if got, _ := u.pick(u.targets[:1]); got != u.targets[1] {
			t.Errorf("tried %s", got.url)
		}
	}
}
