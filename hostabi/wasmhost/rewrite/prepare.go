// Package rewrite works on the bytes of a policy module, and runs nothing: it
// holds them to what ABI.md §3, §4 and §8 say of a module, and writes them anew in
// the forms that the host runs: bounded, asking for time, lean.
package rewrite

import (
	"bytes"
	"errors"

	"weir/hostabi"
	"weir/hostabi/wasmhost/wasm"
)

const numSections = wasm.SecDataCount + 1

// order of the sections in a binary: the data count stands before the code.
var order = [numSections]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 10}

// Bounds that ABI.md §8 gives to what a module declares.
const (
	maxTables    = 16
	maxEntries   = 1 << 16 // of a section, such as functions or globals; the engine takes up to 2 KiB for one
	maxData      = 1 << 18 // segments; linkers write many: a Go guest of 2 MiB has 26,000
	maxElements  = 1 << 16 // of all segments; the engine takes up to 40 bytes for one, each compiled instance again
	maxSignature = 128     // parameters and results of a function; the engine looks at all for each call
	maxLocals    = 4096    // of one function, beside its parameters
	maxAllLocals = 1 << 19 // of all; the interpreter takes 260 bytes for one, a Go guest of 2 MiB has 6,500
	maxName      = 1024    // bytes of the name of an import or export
)

// remedyWasm2 is for what the engine may know and the rewriter does not.
const remedyWasm2 = "build for WebAssembly 2.0, without tail calls, exceptions, threads, 64-bit memory or garbage collection"

// Facts are what the host knows about a module from its bytes alone.
type Facts struct {
	Has     [hostabi.NumHooks]bool // by hook: it is exported
	Unknown []string               // exports that begin like a hook's and are none of ABI v1
}

// Draft is a module that was taken apart and checked, to be written as often as
// needed. One goroutine at a time uses it. It keeps the bytes it was made of, until Begun.
type Draft struct {
	Facts
	sections [numSections][]byte
	names    []byte // body of the custom section "name", after its name

	types    []wasm.Signature
	imports  []uint32 // type of each imported function
	funcs    []uint32 // type of each own function
	widest   int      // parameters and results of a type, the most
	globals  uint32
	mutable  []uint32 // globals of numbers that code may change
	exports  map[string]export
	memory   bool
	maxPages uint32   // of memory
	prints   []uint64 // of the functions
	wild     bool     // its state is more than memory and numbers: see WorthLean
	effort   effort
}

// Prepare takes a module apart and validates it statically, without running any
// of it. What it leaves is to be written (Draft.Write), which looks at the code.
// The error is an *Error.
func Prepare(module []byte, allowed Imports) (*Draft, error) {
	d := &Draft{exports: map[string]export{}}
	for _, step := range []func() error{
		func() error { return d.split(module) },
		d.readTypes,
		func() error { return d.readImports(allowed) },
		d.readFunctions,
		d.boundTables,
		d.boundMemory,
		d.readExports,
		d.checkExports,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// Write returns the module rewritten so that its memory and tables are bounded
// and its code asks for time (instrument.go), in one of its forms. The engine
// validates what comes out. The error is an *Error.
func (d *Draft) Write(f Form) ([]byte, error) {
	out := *d // sections are replaced, never changed in place
	out.mutable, out.prints, out.effort = nil, nil, effort{}
	if err := out.instrument(f); err != nil {
		return nil, err
	}
	d.wild, d.mutable, d.effort = out.wild, out.mutable, out.effort
	if f.Marks {
		d.prints = out.prints
	}
	return out.join(), nil
}

// split finds the sections and their order; custom sections other than names
// are left out.
func (d *Draft) split(module []byte) error {
	if !bytes.HasPrefix(module, []byte(wasm.Header)) {
		if bytes.HasPrefix(module, []byte("\x00asm\x0d\x00\x01\x00")) {
			return refuse("build a core module (-buildmode=c-shared, cdylib, --no-entry), not a component", "the file is a WebAssembly component")
		}
		return refuse("name a .wasm file, version 1", "the file is not a WebAssembly module")
	}
	r := &reader{b: module, off: len(wasm.Header)}
	last := 0
	for r.more() {
		id := int(r.byte())
		body := r.take(r.u32())
		if r.err != nil {
			break
		}
		if id == wasm.SecCustom {
			c := &reader{b: body}
			if c.name() == "name" && c.err == nil && d.names == nil {
				d.names = body[c.off:]
			}
			continue
		}
		if id >= numSections {
			return refuse(remedyWasm2, "section %d is unknown", id)
		}
		if err := boundEntries(id, body); err != nil {
			return err
		}
		if order[id] <= last {
			return malformed(id, errors.New("it is repeated or out of order"))
		}
		last = order[id]
		d.sections[id] = body
	}
	if r.err != nil {
		return refuse("build it again", "the module is malformed: %v", r.err)
	}
	return nil
}

// boundEntries refuses a section with more entries than a policy has.
func boundEntries(id int, section []byte) error {
	most := uint32(maxEntries)
	switch id {
	case wasm.SecStart:
		return nil // an index
	case wasm.SecData, wasm.SecDataCount:
		most = maxData
	}
	if n := (&reader{b: section}).u32(); n > most {
		return refuse("build it smaller", "section %d has %d entries, more than %d", id, n, most)
	}
	return nil
}

// join writes the module.
func (d *Draft) join() []byte {
	size := len(wasm.Header) + len(d.names) + 16
	for _, s := range d.sections {
		size += len(s) + 6
	}
	out := append(make([]byte, 0, size), wasm.Header...)
	for _, id := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11} {
		if s := d.sections[id]; s != nil {
			out = wasm.AppendSection(out, byte(id), s)
		}
	}
	if d.names != nil {
		out = wasm.AppendSection(out, wasm.SecCustom, append(wasm.AppendName(nil, "name"), d.names...))
	}
	return out
}

func malformed(section int, err error) error {
	return refuse("build it again", "section %d is malformed: %v", section, err)
}

// each reads the vector that a section consists of, and nothing behind it.
func (d *Draft) each(section int, read func(i uint32, r *reader) error) error {
	if d.sections[section] == nil {
		return nil
	}
	r := &reader{b: d.sections[section]}
	n := r.count()
	for i := range n {
		if err := read(i, r); err != nil {
			return err
		}
		if r.err != nil {
			break
		}
	}
	if r.err == nil && r.off != len(r.b) {
		r.err = errShort
	}
	if r.err != nil {
		return malformed(section, r.err)
	}
	return nil
}

func (d *Draft) readTypes() error {
	return d.each(wasm.SecType, func(_ uint32, r *reader) error {
		if form := r.byte(); form != 0x60 && r.err == nil {
			return refuse(remedyWasm2, "type of form %#x is unknown", form)
		}
		t := wasm.Signature{Params: string(r.take(r.u32())), Results: string(r.take(r.u32()))}
		if n := len(t.Params) + len(t.Results); n > maxSignature {
			return refuse("pass them in memory", "a function type has %d parameters and results, more than %d", n, maxSignature)
		}
		d.widest = max(d.widest, len(t.Params)+len(t.Results))
		for _, b := range []byte(t.Params + t.Results) {
			if !wasm.IsValueType(b) {
				return refuse(remedyWasm2, "value type %#x is unknown", b)
			}
		}
		d.types = append(d.types, t)
		return nil
	})
}

func (d *Draft) readFunctions() error {
	return d.each(wasm.SecFunction, func(_ uint32, r *reader) error {
		d.funcs = append(d.funcs, r.u32())
		return nil
	})
}

// boundTables refuses tables that are too large to begin with and gives each a
// maximum, since wazero bounds the growth of memory only.
func (d *Draft) boundTables() error {
	var out []byte
	var n uint32
	err := d.each(wasm.SecTable, func(i uint32, r *reader) error {
		ref := r.byte()
		flags, low, high, hasMax := r.limits()
		if r.err != nil {
			return nil
		}
		if ref != 0x70 && ref != 0x6F || flags > 1 {
			return refuse(remedyWasm2, "table %d is of an unknown type", i)
		}
		if low > hostabi.MaxTableEntries {
			return refuse("use fewer indirect functions", "table %d has %d entries, more than %d", i, low, hostabi.MaxTableEntries)
		}
		if !hasMax || high > hostabi.MaxTableEntries {
			high = hostabi.MaxTableEntries
		}
		out = append(out, ref, 1)
		out = wasm.AppendU32(out, low)
		out = wasm.AppendU32(out, high)
		if n = i + 1; n > maxTables {
			return refuse("use fewer tables", "the module has more than %d tables", maxTables)
		}
		return nil
	})
	if n > 0 {
		d.sections[wasm.SecTable] = append(wasm.AppendU32(nil, n), out...)
	}
	return err
}

func (d *Draft) boundMemory() error {
	return d.each(wasm.SecMemory, func(i uint32, r *reader) error {
		flags, low, high, hasMax := r.limits()
		if r.err != nil {
			return nil
		}
		if i > 0 || flags > 1 {
			return refuse(remedyWasm2, "the module has a second, shared or 64-bit memory")
		}
		if low > hostabi.MaxMemoryPages {
			return refuse("declare a smaller initial memory or stack", "memory begins with %d pages, more than %d", low, hostabi.MaxMemoryPages)
		}
		if !hasMax || high > hostabi.MaxMemoryPages {
			high = hostabi.MaxMemoryPages
		}
		d.memory, d.maxPages = true, high
		d.sections[wasm.SecMemory] = wasm.AppendU32(wasm.AppendU32([]byte{1, 1}, low), high)
		return nil
	})
}
