package wasmhost

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"weir/hostabi"
)

// Sections of a Wasm binary, by id.
const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
	numSections
)

// order of the sections in a binary: the data count stands before the code.
var order = [numSections]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 10}

// Bounds that ABI.md §8 gives to what a module declares.
const (
	maxTables = 16
	maxLocals = 4096 // of one function, beside its parameters
)

// remedyWasm2 is for what the engine may know and the rewriter does not.
const remedyWasm2 = "build for WebAssembly 2.0, without tail calls, exceptions, threads, 64-bit memory or garbage collection"

// facts are what the host knows about a module from its bytes alone.
type facts struct {
	has     [hostabi.NumHooks]bool
	unknown []string      // exports that begin like a hook's and are none of ABI v1
	abi     atomic.Uint32 // what weir_abi returned
	effort  effort
}

// draft is a module being taken apart, checked and put together again.
type draft struct {
	*facts
	sections [numSections][]byte
	names    []byte // body of the custom section "name", after its name

	types    []signature
	imports  []uint32 // type of each imported function
	funcs    []uint32 // type of each own function
	globals  uint32
	mutable  []uint32 // globals of numbers that code may change
	exports  map[string]export
	memory   bool
	maxPages uint32   // of memory
	prints   []uint64 // of the functions (familiar.go)
	wild     bool     // its state is more than memory and numbers: see lean
}

type export struct {
	kind  byte // 0 function, 1 table, 2 memory, 3 global
	index uint32
}

// prepare takes a module apart and validates it statically, without running any
// of it. What it leaves is to be written (draft.write), which looks at the code.
func prepare(wasm []byte) (*draft, error) {
	d := &draft{facts: &facts{}, exports: map[string]export{}}
	for _, step := range []func() error{
		func() error { return d.split(wasm) },
		d.readTypes,
		d.readImports,
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

// write returns the module rewritten so that its memory and tables are bounded
// and its code asks for time (instrument.go), in one of itf forms (lean.go).
// The engine validates what comes out.
func (d *draft) write(f form) ([]byte, error) {
	out := *d // sections are replaced, never changed in place
	out.mutable, out.prints = nil, nil
	if err := out.instrument(f); err != nil {
		return nil, err
	}
	d.wild, d.mutable = d.wild || out.wild, out.mutable
	if f.marks {
		d.prints = out.prints
	}
	return out.join(), nil
}

var header = []byte("\x00asm\x01\x00\x00\x00")

// split finds the sections and their order; custom sections other than names
// are left out.
func (d *draft) split(wasm []byte) error {
	if !bytes.HasPrefix(wasm, header) {
		if bytes.HasPrefix(wasm, []byte("\x00asm\x0d\x00\x01\x00")) {
			return refuse("build a core module (-buildmode=c-shared, cdylib, --no-entry), not a component", "the file is a WebAssembly component")
		}
		return refuse("name a .wasm file, version 1", "the file is not a WebAssembly module")
	}
	r := &reader{b: wasm, off: len(header)}
	last := 0
	for r.more() {
		id := int(r.byte())
		body := r.take(r.u32())
		if r.err != nil {
			break
		}
		if id == secCustom {
			c := &reader{b: body}
			if c.name() == "name" && c.err == nil && d.names == nil {
				d.names = body[c.off:]
			}
			continue
		}
		if id >= numSections {
			return refuse(remedyWasm2, "section %d is unknown", id)
		}
		if order[id] <= last {
			return malformed(id, fmt.Errorf("it is repeated or out of order"))
		}
		last = order[id]
		d.sections[id] = body
	}
	if r.err != nil {
		return refuse("build it again", "the module is malformed: %v", r.err)
	}
	return nil
}

// join writes the module.
func (d *draft) join() []byte {
	size := len(header) + len(d.names) + 16
	for _, s := range d.sections {
		size += len(s) + 6
	}
	out := append(make([]byte, 0, size), header...)
	for _, id := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11} {
		if s := d.sections[id]; s != nil {
			out = appendSection(out, byte(id), s)
		}
	}
	if d.names != nil {
		out = appendSection(out, secCustom, append(appendName(nil, "name"), d.names...))
	}
	return out
}

func malformed(section int, err error) error {
	return refuse("build it again", "section %d is malformed: %v", section, err)
}

// each reads the vector that a section consists of, and nothing behind it.
func (d *draft) each(section int, read func(i uint32, r *reader) error) error {
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

func (d *draft) readTypes() error {
	return d.each(secType, func(_ uint32, r *reader) error {
		if form := r.byte(); form != 0x60 && r.err == nil {
			return refuse(remedyWasm2, "type of form %#x is unknown", form)
		}
		t := signature{string(r.take(r.u32())), string(r.take(r.u32()))}
		for _, b := range []byte(t.params + t.results) {
			if !isValueType(b) {
				return refuse(remedyWasm2, "value type %#x is unknown", b)
			}
		}
		d.types = append(d.types, t)
		return nil
	})
}

func (d *draft) readImports() error {
	return d.each(secImport, func(_ uint32, r *reader) error {
		module, name, kind := r.name(), r.name(), r.byte()
		if r.err != nil {
			return nil
		}
		if kind != 0 {
			return refuse("define it in the module and export it", "import %s.%s is a %s; only functions may be imported", module, name, kindName(kind))
		}
		t := r.u32()
		if r.err != nil {
			return nil
		}
		d.imports = append(d.imports, t)
		host, ok := hostFunctions[module][name]
		if !ok {
			return refuse(importRemedy(module, name), "import %s.%s is not allowed", module, name)
		}
		if got := d.typeAt(t); got != host.signature {
			return refuse("declare it as the SDK does", "import %s.%s has signature %v, it should be %v", module, name, got, host.signature)
		}
		return nil
	})
}

// importRemedy says how an import that is not allowed is got rid of.
func importRemedy(module, name string) string {
	switch {
	case module == "env" && name == "abort":
		return "compile AssemblyScript with --use abort= and --runtime incremental"
	case module == wasiModule:
		return "policies have no file system, network, environment or clock: leave out the code that needs it"
	case module == "gojs" || module == "go":
		return "build with GOOS=wasip1 -buildmode=c-shared, not GOOS=js"
	case module == "env":
		return "define the function in the module: an undefined symbol became an import"
	}
	return fmt.Sprintf("a policy may import %s.%s and some of %s only", hostabi.ImportModule, hostabi.ImportLog, wasiModule)
}

func (d *draft) readFunctions() error {
	return d.each(secFunction, func(_ uint32, r *reader) error {
		d.funcs = append(d.funcs, r.u32())
		return nil
	})
}

// boundTables refuses tables that are too large to begin with and gives each a
// maximum, since wazero bounds the growth of memory only.
func (d *draft) boundTables() error {
	var out []byte
	var n uint32
	err := d.each(secTable, func(i uint32, r *reader) error {
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
		out = appendU32(out, low)
		out = appendU32(out, high)
		if n = i + 1; n > maxTables {
			return refuse("use fewer tables", "the module has more than %d tables", maxTables)
		}
		return nil
	})
	if n > 0 {
		d.sections[secTable] = append(appendU32(nil, n), out...)
	}
	return err
}

func (d *draft) boundMemory() error {
	return d.each(secMemory, func(i uint32, r *reader) error {
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
		d.sections[secMemory] = appendU32(appendU32([]byte{1, 1}, low), high)
		return nil
	})
}

func (d *draft) readExports() error {
	return d.each(secExport, func(_ uint32, r *reader) error {
		name := r.name()
		d.exports[name] = export{r.byte(), r.u32()}
		return nil
	})
}

// checkExports holds the exports to ABI.md §3.
func (d *draft) checkExports() error {
	if e, ok := d.exports["_start"]; ok && e.kind == 0 {
		return refuse("build a reactor: -buildmode=c-shared (Go), crate-type cdylib (Rust), -mexec-model=reactor (C)", "the module is a command: it exports _start")
	}
	if e, ok := d.exports[hostabi.ExportMemory]; !ok || e.kind != 2 || !d.memory {
		return refuse("export the linear memory under this name", "the export %q is missing", hostabi.ExportMemory)
	}
	if err := d.checkExport(hostabi.ExportInitialize, signature{}, false); err != nil {
		return err
	}
	if err := d.checkExport(hostabi.ExportABI, sig("", "i"), true); err != nil {
		return err
	}
	if err := d.checkExport(hostabi.ExportBuffer, sig("ii", "i"), true); err != nil {
		return err
	}
	known := []string{hostabi.ExportABI, hostabi.ExportBuffer}
	for h := range hostabi.Hook(hostabi.NumHooks) {
		if err := d.checkExport(h.Export(), sig("i", "I"), false); err != nil {
			return err
		}
		_, d.has[h] = d.exports[h.Export()]
		known = append(known, h.Export())
	}
	for name, e := range d.exports {
		d.wild = d.wild || strings.HasPrefix(name, ownPrefix)
		if e.kind == 0 && strings.HasPrefix(name, "weir_") && !slices.Contains(known, name) {
			d.unknown = append(d.unknown, name)
		}
	}
	slices.Sort(d.unknown)
	return nil
}

func (d *draft) checkExport(name string, want signature, required bool) error {
	e, ok := d.exports[name]
	switch {
	case !ok && required:
		return refuse("link the SDK, or export it with this signature", "the export %s %v is missing", name, want)
	case !ok:
		return nil
	case e.kind != 0:
		return refuse("export it as a function", "the export %s is a %s, it should be a function %v", name, kindName(e.kind), want)
	}
	if got := d.typeOf(e.index); got != want {
		return refuse("correct its parameters and result", "the export %s has signature %v, it should be %v", name, got, want)
	}
	return nil
}

// typeOf is the signature of a function by its index; the zero signature for
// one that does not exist, which the engine refuses.
func (d *draft) typeOf(fn uint32) signature {
	if n := uint32(len(d.imports)); fn < n {
		return d.typeAt(d.imports[fn])
	} else if fn-n < uint32(len(d.funcs)) {
		return d.typeAt(d.funcs[fn-n])
	}
	return signature{"?", "?"}
}

func (d *draft) typeAt(i uint32) signature {
	if i < uint32(len(d.types)) {
		return d.types[i]
	}
	return signature{"?", "?"}
}
