package wasmhost

import (
	"strconv"
	"time"
)

// A large module is run lean (docs/RATIONALE.md, "Why does a Go policy not take
// 60 MB?"). Most of what a Go guest consists of runs once, at its start, or
// never. So the host starts one instance of the whole module, in the
// interpreter, keeps an image of what it has become (image.go), and marks which
// functions are called from there on, by weir_configure and a rehearsal of every
// hook. Instances that serve begin as copies of the image, in code that has only
// those functions. The others are stubs. One that is called all the same ends
// the call, the host adds the function with all that it calls by name, and asks
// a new instance again, which is as good: hooks are pure and instances
// interchangeable (ABI.md §1).
const (
	leanFrom  = 256 << 10 // bytes of code that are worth it
	maxGrowth = 32        // times that code is added to; after that it is all there
	stubSize  = 16        // bytes of a function that is not worth a stub

	ownPrefix = "weir:"         // of the exports that are added
	markName  = ownPrefix + "m" // 64 functions each, a bit for one that was called
	stateName = ownPrefix + "g" // a global that may change
	missing   = "missing"       // the import that stubs call with their function's number
)

// growthWait is how long a call waits for code that is added. It is the host's
// work and not the guest's, so it is longer than a call may take: what the guest
// answers is worth more than its fallback, also on a machine that has no time.
const growthWait = 10 * time.Second

// form is what a module is written as.
type form struct {
	marks    bool   // functions mark that they are called
	pages    uint32 // of memory, when instances begin as an image; 0: at the beginning
	resident set    // functions whose code is there; nil: all
	familiar prints // in the place of resident: those that look like one of these; nil: all
}

func (f form) lean() bool { return f.resident != nil || f.familiar != nil }

// holds reports whether the code of a function is there, by its number, imports
// not counted, and its bytes.
func (f form) holds(fn, size uint32) bool {
	return f.resident == nil || size <= stubSize || f.resident.has(fn)
}

// set holds the numbers of functions, imports not counted.
type set []uint64

func (s set) has(n uint32) bool { return s[n/64]>>(n%64)&1 != 0 }

func (s set) add(n uint32) { s[n/64] |= 1 << (n % 64) }

// marks is how many globals the marks of all functions take.
func (d *draft) marks() int { return (len(d.funcs) + 63) / 64 }

func exportedGlobal(name string, i int, index uint32) []byte {
	return appendU32(append(appendName(nil, name+strconv.Itoa(i)), 3), index)
}

// mark inserts: the function's bit |= 1.
func (c *copier) mark() {
	global := c.global + 1 + c.own/64
	c.out = appendU32(append(c.out, opGlobalGet), global)
	c.out = appendS64(append(c.out, opI64Const), 1<<(c.own%64))
	c.out = appendU32(append(c.out, opI64Or, opGlobalSet), global)
}

// stub is the body of function fn when its code is not there.
func (c *copier) stub(fn uint32) {
	c.out = appendS32(append(c.out[:0], 0, opI32Const), int32(fn))
	c.out = appendU32(append(c.out, opCall), c.fn+1)
	c.out = append(c.out, opUnreachable, opEnd)
}

// reach returns s with fn and every function that it calls by name, directly or
// through others.
func (d *draft) reach(s set, fn uint32) set {
	grown := append(set(nil), s...)
	bodies := d.bodies()
	todo := []uint32{fn}
	grown.add(fn)
	c := &copier{meter: meter{fn: uint32(len(d.imports)), added: 1}, limit: 1<<32 - 1}
	for len(todo) > 0 {
		fn, todo = todo[len(todo)-1], todo[:len(todo)-1]
		c.out, c.calls = c.out[:0], c.calls[:0]
		_ = c.function(&reader{b: bodies[fn]}, uint32(len(d.typeAt(d.funcs[fn]).params))) // was copied before
		for _, callee := range c.calls {
			if own := callee - uint32(len(d.imports)); callee >= uint32(len(d.imports)) && own < uint32(len(bodies)) && !grown.has(own) {
				grown.add(own)
				todo = append(todo, own)
			}
		}
	}
	return grown
}

// bodies are those of the module's functions.
func (d *draft) bodies() (all [][]byte) {
	_ = d.each(secCode, func(_ uint32, r *reader) error { // was read before
		all = append(all, r.take(r.u32()))
		return nil
	})
	return all
}

// worthIt reports whether a module is to be run lean: it is large, and its state
// is its memory and numbers.
func (d *draft) worthIt(from int) bool {
	return len(d.sections[secCode]) >= from && !d.wild
}
