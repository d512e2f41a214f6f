// Package crash keeps a panic to what it happened in: one tunnel, one exchange,
// one turn of a loop. Everything else goes on, and whoever looks after it is
// told.
package crash

import "runtime/debug"

// Report is told of a panic that was contained, with the stack of where it
// happened. nil contains nothing.
type Report func(v any, stack []byte)

// Contain calls f. A panic in it ends f, is reported once, and makes Contain
// return false. What f held it must have given back by then: it defers that.
func (r Report) Contain(f func()) (ok bool) {
	if r == nil {
		f()
		return true
	}
	defer func() {
		if ok {
			return
		}
		if v := recover(); v != nil {
			r.Tell(v, debug.Stack())
		}
	}()
	f()
	return true
}

// Tell reports a panic that was recovered elsewhere. A report that panics itself
// is given up: it must not be what ends the process.
func (r Report) Tell(v any, stack []byte) {
	if r == nil {
		return
	}
	defer func() { _ = recover() }()
	r(v, stack)
}
