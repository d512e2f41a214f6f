package flow

import "sync/atomic"

// Budget counts bytes against a ceiling. It may have a parent, whose ceiling
// holds as well. The zero ceiling means that only the parent's counts.
type Budget struct {
	parent *Budget
	max    atomic.Int64
	used   atomic.Int64
	wanted atomic.Int64
	aside  atomic.Int64 // of used: by TakeAside
}

// NewBudget returns a budget of max bytes under parent, which may be nil.
func NewBudget(max int64, parent *Budget) *Budget {
	b := &Budget{parent: parent}
	b.max.Store(max)
	return b
}

// SetMax changes the ceiling. What is reserved stays reserved.
func (b *Budget) SetMax(max int64) { b.max.Store(max) }

// Max returns the ceiling; 0 means none.
func (b *Budget) Max() int64 { return b.max.Load() }

// Used returns the bytes reserved and taken aside.
func (b *Budget) Used() int64 { return b.used.Load() }

// Queued returns the bytes reserved.
func (b *Budget) Queued() int64 { return max(0, b.used.Load()-b.aside.Load()) }

// Full returns the ceiling that is as good as reached, b's own or the first
// above it, with what is used and above how much nothing new should begin: what
// waits for room never fills a ceiling to the last byte, so headroom is left
// below it. Zero, zero and zero: none is.
func (b *Budget) Full() (max, mark, used int64) {
	for ; b != nil; b = b.parent {
		max, used = b.max.Load(), b.used.Load()
		if mark = max - min(headroom, max/8); max > 0 && used > mark {
			return max, mark, used
		}
	}
	return 0, 0, 0
}

// Short reports whether what may be shed is to make room: a ceiling, b's own or one above
// it, is as good as reached, or has no room for what somebody waits for.
func (b *Budget) Short() bool {
	if max, _, _ := b.Full(); max > 0 {
		return true
	}
	for ; b != nil; b = b.parent {
		if max, wanted := b.max.Load(), b.wanted.Load(); max > 0 && wanted > 0 && b.used.Load()+wanted > max {
			return true
		}
	}
	return false
}

// headroom is what one more user of a budget is expected to need, in bytes.
const headroom = 64 << 10

// Fits reports whether Reserve would take n bytes now.
func (b *Budget) Fits(n int64) bool {
	for ; b != nil; b = b.parent {
		if !b.fits(n) {
			return false
		}
	}
	return true
}

// fits is Fits for b's own ceiling.
func (b *Budget) fits(n int64) bool {
	max := b.max.Load()
	return max <= 0 || b.used.Load()+n <= max
}

// Reserve takes n bytes, or none when a ceiling would be exceeded.
func (b *Budget) Reserve(n int64) bool {
	limit, _ := b.Take(n)
	return limit == 0
}

// Take is Reserve that tells why not: the ceiling that would be exceeded, b's own or
// the first above it, and what would be used then. Zero and zero: n bytes are taken.
func (b *Budget) Take(n int64) (limit, used int64) {
	if b == nil {
		return 0, 0
	}
	used, limit = b.used.Add(n), b.max.Load()
	if limit <= 0 || used <= limit {
		if limit, used = b.parent.Take(n); limit == 0 {
			return 0, 0
		}
	}
	b.used.Add(-n)
	return limit, used
}

// Want announces that somebody waits for n bytes that he could not reserve, until over is
// called. Meanwhile nothing that may be shed takes their place below the ceilings that
// have no room for them; below others there is room for both.
func (b *Budget) Want(n int64) (over func()) {
	var full []*Budget
	for ; b != nil; b = b.parent {
		if !b.fits(n) {
			b.wanted.Add(n)
			full = append(full, b)
		}
	}
	return func() {
		for _, b := range full {
			b.wanted.Add(-n)
		}
	}
}

// ReserveSpare is Reserve for what may be shed: it takes nothing that is wanted.
func (b *Budget) ReserveSpare(n int64) bool {
	for o := b; o != nil; o = o.parent {
		if wanted := o.wanted.Load(); wanted > 0 && o.used.Load()+n+wanted > o.max.Load() && o.max.Load() > 0 {
			return false
		}
	}
	return b.Reserve(n)
}

// Release gives n bytes back.
func (b *Budget) Release(n int64) {
	for ; b != nil; b = b.parent {
		b.used.Add(-n)
	}
}

// force takes n bytes whatever the ceiling: for what may never be refused and
// is bounded elsewhere.
func (b *Budget) force(n int64) {
	for ; b != nil; b = b.parent {
		b.used.Add(n)
	}
}

// TakeAside takes n bytes, or gives them back when n is negative, whatever the
// ceiling: for what waits in no queue and is not to be refused.
func (b *Budget) TakeAside(n int64) {
	b.force(n)
	for ; b != nil; b = b.parent {
		b.aside.Add(n)
	}
}
