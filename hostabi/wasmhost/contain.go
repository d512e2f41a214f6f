package wasmhost

import (
	"fmt"
	"runtime/debug"
	"strings"
)

// contain calls f, which loads the module or works for a slot of the pool: a panic
// in the host itself is reported once and becomes an error, so that the bytes can be
// loaded again, or the slot is filled again as after any fault, and Close does not
// wait for it for ever.
func (m *Module) contain(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			m.panicked(v, debug.Stack())
			err = panicError{v}
		}
	}()
	return f()
}

// panicError is a panic in the host. One of another goroutine has its stack behind
// its first line (laboriously).
type panicError struct{ v any }

func (e panicError) Error() string {
	line, _, _ := strings.Cut(fmt.Sprint(e.v), "\n")
	return fmt.Sprintf("panic in the host: %.200s", line)
}

func (m *Module) panicked(v any, stack []byte) {
	if m.opts.Panic == nil {
		m.log.say("error", fmt.Sprintf("panic in the host: %v\n%s", v, stack))
		return
	}
	defer func() { _ = recover() }() // what tells of a panic must not be the next
	m.opts.Panic(v, stack)
}
