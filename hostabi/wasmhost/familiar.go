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
// decides nothing else: a guess that does not suffice is dropped. What one build was
// seen to miss the next is likely to miss, too, so it is there from the beginning.
var known = newFamiliar()

func newFamiliar() *familiar { return &familiar{all: rewrite.Prints{}, missed: rewrite.Prints{}} }

// familiar are functions by their prints. Any goroutine may use it.
type familiar struct {
	mu     sync.Mutex
	all    rewrite.Prints
	missed rewrite.Prints // were not there when they were called: the next build has them
}

// get returns what is known; nil if nothing is.
func (f *familiar) get() rewrite.Prints {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.all) == 0 {
		return nil
	}
	return maps.Clone(f.all)
}

// miss remembers the functions that were added to a module, of which it had some.
func (f *familiar) miss(of []uint64, had, has rewrite.Set) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.missed)+len(of) > maxKnown {
		clear(f.missed)
	}
	for fn, p := range of {
		if has.Has(uint32(fn)) && !had.Has(uint32(fn)) {
			f.missed[p] = struct{}{}
		}
	}
}

// expect adds to s the functions that look like what others missed.
func (f *familiar) expect(of []uint64, s rewrite.Set) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for fn, p := range of {
		if _, ok := f.missed[p]; ok {
			s.Add(uint32(fn))
		}
	}
}

// add remembers the functions of a module that were called.
func (f *familiar) add(of []uint64, called ...rewrite.Set) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.all)+len(of) > maxKnown {
		clear(f.all)
	}
	for fn, p := range of {
		for _, s := range called {
			if s.Has(uint32(fn)) {
				f.all[p] = struct{}{}
			}
		}
	}
}
