package rewrite

import (
	"slices"
	"strconv"

	"weir/hostabi/wasmhost/wasm"
)

const (
	stubSize  = 16      // bytes of a function that is not worth a stub
	ownPrefix = "weir:" // of the exports that are added
)

// What is added to a module, for the host to define or to use.
const (
	HostModule = "weir_host"  // module of the imports; guests cannot import it
	Checkpoint = "checkpoint" // () -> (): the guest asks for more time; returns, or ends it
	Missing    = "missing"    // (i32) -> (): calls function i32, whose code is not there; ends the guest

	// Exported globals, each with a number from 0 behind its name.
	MarkName  = ownPrefix + "m" // i64: 64 functions, a bit for one that was called
	StateName = ownPrefix + "g" // one that may change
)

// Form is what a module is written as; the zero Form is the whole module. One
// with Resident or Familiar is lean: the functions that are left out are stubs.
type Form struct {
	Marks    bool   // functions mark that they are called
	Pages    uint32 // of memory, when instances begin as an image; 0: at the beginning
	Resident Set    // functions whose code is there; nil: all
	Familiar Prints // in the place of Resident: those that look like one of these; nil: all
}

func (f Form) lean() bool { return f.Resident != nil || f.Familiar != nil }

// holds reports whether the code of a function is there, by its number, imports
// not counted, and its bytes.
func (f Form) holds(fn, size uint32) bool {
	return f.Resident == nil || size <= stubSize || f.Resident.Has(fn)
}

// Set holds the numbers of functions, imports not counted: number n is bit n%64
// of word n/64, as in the marks. It has Draft.Marks words.
type Set []uint64

// Has reports whether n, below 64 × len(s), is in s.
func (s Set) Has(n uint32) bool { return s[n/64]>>(n%64)&1 != 0 }

// Add puts n, below 64 × len(s), into s.
func (s Set) Add(n uint32) { s[n/64] |= 1 << (n % 64) }

// Prints are what functions look like, whatever they call and wherever data lies:
// so most functions of a program that was built again look as before, those of
// Go's runtime in any program.
type Prints map[uint64]struct{}

// Prints are the prints of the module's functions by their number, once it was
// written with marks.
func (d *Draft) Prints() []uint64 { return d.prints }

// Marks is how many globals the marks of all functions take.
func (d *Draft) Marks() int { return (len(d.funcs) + 63) / 64 }

// States is how many globals may change, once the module was written.
func (d *Draft) States() int { return len(d.mutable) }

// Begun lets go of what only the beginning of a module needs, a third of a Go guest,
// and of the bytes that the draft was made of: it is written with Pages from now on.
func (d *Draft) Begun() {
	d.sections[wasm.SecStart], d.sections[wasm.SecData], d.sections[wasm.SecDataCount] = nil, nil, nil
	for id, s := range d.sections {
		d.sections[id] = slices.Clone(s)
	}
	d.names = slices.Clone(d.names)
}

// WorthLean reports whether a module is to be run lean: it has that many bytes of
// code, and its state is its memory and numbers. The second is certain once it
// was written, which looks at the code.
func (d *Draft) WorthLean(from int) bool {
	return len(d.sections[wasm.SecCode]) >= from && !d.wild
}

func exportedGlobal(name string, i int, index uint32) []byte {
	return wasm.AppendU32(append(wasm.AppendName(nil, name+strconv.Itoa(i)), 3), index)
}

// mark inserts: the function's bit |= 1.
func (c *copier) mark() {
	global := c.global + 1 + c.own/64
	c.out = wasm.AppendU32(append(c.out, wasm.OpGlobalGet), global)
	c.out = wasm.AppendS64(append(c.out, wasm.OpI64Const), 1<<(c.own%64))
	c.out = wasm.AppendU32(append(c.out, wasm.OpI64Or, wasm.OpGlobalSet), global)
}

// stub is the body of function fn when its code is not there.
func (c *copier) stub(fn uint32) {
	c.out = wasm.AppendS32(append(c.out[:0], 0, wasm.OpI32Const), int32(fn))
	c.out = wasm.AppendU32(append(c.out, wasm.OpCall), c.fn+1)
	c.out = append(c.out, wasm.OpUnreachable, wasm.OpEnd)
}
