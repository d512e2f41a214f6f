package wasmhost

import (
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the breaker.
const (
	breakerFaults = 5                // consecutive faults that open it
	breakerFirst  = time.Second      // how long it stays open the first time
	breakerMax    = 30 * time.Second // and at most, doubling with each failed trial
)

// breaker stops calls of a hook that keeps failing. It is closed until
// breakerFaults calls in a row failed, then open for a while, then half-open:
// one trial decides. Time is an argument.
type breaker struct {
	quiet atomic.Bool // closed and without a recent fault: the state of all but a sick hook

	mu     sync.Mutex
	faults int           // in a row
	wait   time.Duration // current open time; 0 when closed
	until  time.Time     // end of the open time
	trial  bool          // one call is deciding
}

func newBreaker() *breaker {
	b := &breaker{}
	b.quiet.Store(true)
	return b
}

// allow says whether a call may start at now, and whether it is the trial. Every
// allowed call is followed by success, failure or cancel, which are told so.
func (b *breaker) allow(now time.Time) (ok, trial bool) {
	if b.quiet.Load() {
		return true, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wait == 0 {
		return true, false
	}
	if b.trial || now.Before(b.until) {
		return false, false
	}
	b.trial = true
	return true, true
}

// success closes the breaker.
func (b *breaker) success(trial bool) {
	if b.quiet.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wait > 0 && !trial {
		return // a straggler from before it opened decides nothing
	}
	b.faults, b.wait, b.trial = 0, 0, false
	b.quiet.Store(true)
}

// failure counts a fault at now and reports whether it opened the breaker, and
// for how long.
func (b *breaker) failure(now time.Time, trial bool) (opened bool, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.quiet.Store(false)
	b.faults++
	switch {
	case trial:
		b.wait = min(2*b.wait, breakerMax)
	case b.wait == 0 && b.faults >= breakerFaults:
		b.wait = breakerFirst
	default:
		return false, 0
	}
	b.trial = false
	b.until = now.Add(b.wait)
	return true, b.wait
}

// cancel ends an allowed call that never reached the guest.
func (b *breaker) cancel(trial bool) {
	if !trial {
		return
	}
	b.mu.Lock()
	b.trial = false
	b.mu.Unlock()
}

// state is the breaker's name at now: closed, open or half-open.
func (b *breaker) state(now time.Time) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.wait == 0:
		return "closed"
	case b.trial || !now.Before(b.until):
		return "half-open"
	}
	return "open"
}
