package wasmhost

import (
	"fmt"
	"time"
)

// Bounds of time (ABI.md §8).
const (
	// wallFactor is how many times as long as its execution a call may take by
	// the wall clock, on a machine that is busy with something else.
	wallFactor = 10
	// wallFloor is the least of that: a thread may not run for as long where
	// every processor is taken.
	wallFloor = 500 * time.Millisecond
	// maxStep is the most that counts as execution between two looks at the
	// clock. Guests look every 5 to 50 µs in the interpreter and every 1 µs
	// compiled; the longest that code takes between two is about this. More means
	// that the thread was not running.
	maxStep = 500 * time.Microsecond
)

// allowance is the time that a guest has: what it executes and, well above, what
// passes meanwhile. A goroutine cannot ask how long it was running, but a guest
// looks at the clock so often that what passes between two looks is either its
// own work or the work of others. Time is an argument.
type allowance struct {
	limit time.Duration // of execution
	spent time.Duration
	began time.Duration
	last  time.Duration // look at the clock
}

func newAllowance(limit, now time.Duration) allowance {
	return allowance{limit: limit, began: now, last: now}
}

// wall is how long a guest may take by the wall clock that may execute for limit.
func wall(limit time.Duration) time.Duration { return max(wallFactor*limit, wallFloor) }

// spend counts the time since the last look and reports whether any is left.
func (a *allowance) spend(now time.Duration) bool {
	a.spent += min(now-a.last, maxStep)
	a.last = now
	return a.spent <= a.limit && now-a.began <= wall(a.limit)
}

// err says what a guest has taken once it has taken too much.
func (a *allowance) err() error {
	if a.spent > a.limit {
		return fmt.Errorf("the guest ran for %v, allowed are %v", rounded(a.spent), a.limit)
	}
	return fmt.Errorf("the guest ran for %v within %v, allowed are %v", rounded(a.spent), rounded(a.last-a.began), wall(a.limit))
}

func rounded(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
