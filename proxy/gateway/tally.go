package gateway

import "sync/atomic"

// tally is a count that each loop keeps its own part of: loops that wrote to the
// same memory for each exchange would wait for each other's caches.
type tally [16]struct {
	n atomic.Int64
	_ [56]byte // to the next cache line
}

func (t *tally) add(loop int, n int64) { t[loop%len(t)].n.Add(n) }

// sum is exact when nothing is added meanwhile.
func (t *tally) sum() (n int64) {
	for i := range t {
		n += t[i].n.Load()
	}
	return n
}
