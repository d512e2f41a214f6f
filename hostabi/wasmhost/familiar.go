package wasmhost

import (
	"maps"
	"sync"

	"weir/hostabi/wasmhost/rewrite"
)

// maxKnown bounds what is known; a Go guest calls about 450 functions.
const maxKnown = 16 << 10

// known are functions that modules were seen to call. A module that is replaced
// by another build is likely to call the same, so the rehearsal of that tries
// with them first and is spared compiling the others, which nobody will call. It
// decides nothing else: a guess that does not suffice is dropped.
var known = &memory{all: rewrite.Prints{}}

type memory struct {
	mu  sync.Mutex
	all rewrite.Prints
}

// get returns what is known; nil if nothing is.
func (m *memory) get() rewrite.Prints {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.all) == 0 {
		return nil
	}
	return maps.Clone(m.all)
}

// add remembers the functions of a module that were called.
func (m *memory) add(of []uint64, called ...rewrite.Set) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.all)+len(of) > maxKnown {
		clear(m.all)
	}
	for fn, p := range of {
		for _, s := range called {
			if s.Has(uint32(fn)) {
				m.all[p] = struct{}{}
			}
		}
	}
}
