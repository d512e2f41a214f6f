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
type Budget struct {
	// theoretical arrival time of the next miss in Unix nanoseconds (GCRA)
	next atomic.Int64
}

// Allow takes one miss from the budget and reports whether there was one.
func (b *Budget) Allow(now time.Time) bool {
	t := nanos(now)
	for {
		old := b.next.Load()
		next := max(old, t) + int64(budgetRefill)
		if next-t > budgetBurst*int64(budgetRefill) {
			return false
		}
		if b.next.CompareAndSwap(old, next) {
			return true
		}
	}
}
