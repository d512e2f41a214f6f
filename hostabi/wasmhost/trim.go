package wasmhost

import (
	"runtime/debug"
	"sync/atomic"
	"time"
)

// Bounds of trimming.
const (
	trimAfter = time.Second // the last module was compiled
	trimFrom  = 256 << 10   // bytes of a module worth it
)

// compiles counts the modules compiled in this process.
var compiles atomic.Int64

// trimLater trims after the last of several compilations.
func (m *Module) trimLater() {
	n := compiles.Add(1)
	m.healing.Go(func() { m.trim(n) })
}

// trim gives back the memory that compiling took, which is as much as a Go guest
// needs afterwards or more, and which Go would keep for minutes. Of several
// modules loaded one after the other the last does it for all.
func (m *Module) trim(compiled int64) {
	if m.rest(trimAfter) && compiles.Load() == compiled {
		debug.FreeOSMemory()
	}
}
