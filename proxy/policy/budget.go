package policy

import (
	"sync/atomic"
	"time"
)

const (
	budgetBurst  = 64          // cache misses a tunnel may cause at once
	budgetRefill = time.Second // and one more after each of these
)

// Budget bounds how many cache misses one tunnel may cause: 64 at once and one
// more per second. Beyond it the native default applies, so that a peer that
// sends ever new event keys costs no guest calls. The zero value is a full
// budget; both pumps of a tunnel may use it.
type Budget struct{ misses gcra }

// Allow takes one miss from the budget and reports whether there was one.
func (b *Budget) Allow(now time.Time) bool {
	return b.misses.allow(nanos(now), budgetBurst, budgetRefill)
}

// gcra bounds a rate by the theoretical arrival time of the next event, in Unix
// nanoseconds. The zero value has had none.
type gcra struct{ next atomic.Int64 }

// allow takes one event at t, of burst at once and one more after each refill,
// and reports whether there was one.
func (g *gcra) allow(t, burst int64, refill time.Duration) bool {
	for {
		old := g.next.Load()
		next := max(old, t) + int64(refill)
		if next-t > burst*int64(refill) {
			return false
		}
		if g.next.CompareAndSwap(old, next) {
			return true
		}
	}
}
