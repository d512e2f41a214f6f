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
	// that the thread was not running all the time.
	maxStep = 500 * time.Microsecond
)

// allowance is the time that a guest has: what it executes and, well above, what
// passes meanwhile. A goroutine cannot ask how long it was running, but a guest
// looks at the clock so often that what passes between two looks is either its
// own work or the work of others; of a long one its thread can say, which is a
// system call. Time is an argument.
type allowance struct {
	limit time.Duration // of execution
	spent time.Duration
	began time.Duration
	last  time.Duration // look at the clock

	thread func() time.Duration // how long it has run; 0: nobody knows
	ran    time.Duration        // of it, when it was asked last; 0: it was not
	brief  time.Duration        // of spent, since then
}

func newAllowance(limit, now time.Duration) allowance {
	return allowance{limit: limit, began: now, last: now, thread: threadTime}
}

// wall is how long a guest may take by the wall clock that may execute for limit.
func wall(limit time.Duration) time.Duration { return max(wallFactor*limit, wallFloor) }

// spend counts the time since the last look and reports whether any is left.
func (a *allowance) spend(now time.Duration) bool {
	step := now - a.last
	if step > maxStep {
		step = a.executed()
	} else {
		a.brief += step
	}
	a.spent += step
	a.last = now
	return a.spent <= a.limit && now-a.began <= wall(a.limit)
}

// executed is what counts of a long step: what the thread has run since it was asked
// last, but for the brief ones, or maxStep. On a busy machine a call of 2 ms may be put
// aside several times. A goroutine that has come to another thread is not found out
// always, and no guest can bring that about.
func (a *allowance) executed() time.Duration {
	before, brief := a.ran, a.brief
	a.ran, a.brief = a.thread(), 0
	if before == 0 || a.ran < before {
		return maxStep
	}
	return min(max(a.ran-before-brief, 0), maxStep)
}

// err says what a guest has taken once it has taken too much.
func (a *allowance) err() error {
	if a.spent > a.limit {
		return fmt.Errorf("the guest ran for %v, allowed are %v", rounded(a.spent), a.limit)
	}
	return fmt.Errorf("the guest ran for %v within %v, allowed are %v", rounded(a.spent), rounded(a.last-a.began), wall(a.limit))
}

func rounded(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
