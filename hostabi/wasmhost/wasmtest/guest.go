// Package wasmtest builds policy modules out of instructions, for tests of what
// checks, rewrites and runs them.
package wasmtest

import (
	"maps"
	"slices"

	"weir/hostabi"
	"weir/hostabi/wasmhost/wasm"
)

// Guest is a module under construction; Build writes it.
type Guest struct {
	Types   []wasm.Signature // the first types, in order
	Imports []Import
	Start   []byte            // body of a start function, if any
	Exports map[string]*Func  // functions, by the name they are exported under
	Helpers []*Func           // further functions, called by h0, h1, …
	Memory  []byte            // limits; nil: no memory section
	Tables  [][]byte          // type and limits of each
	Globals [][]byte          // type and initial value of each
	Elems   [][]byte          // segments
	Raw     map[string]Export // further exports
	Custom  []byte            // a section put in front of the others, as it is
}

// Import is an imported function.
type Import struct {
	Module, Name string
	wasm.Signature
}

// Export is what is exported: its kind (0 function, 1 table, 2 memory, 3 global)
// and index.
type Export struct {
	Kind  byte
	Index uint32
}

// Func is a function.
type Func struct {
	wasm.Signature
	Locals []byte // groups, without their number; nil: none
	Body   []byte // without the last end
}

// NewGuest is a good module: every hook echoes its input.
func NewGuest() *Guest {
	g := &Guest{
		Memory:  []byte{0, 2},
		Exports: map[string]*Func{},
		Raw:     map[string]Export{hostabi.ExportMemory: {2, 0}},
	}
	g.Exports[hostabi.ExportABI] = &Func{Signature: wasm.Sig("", "i"), Body: I32(hostabi.Version)}
	g.Exports[hostabi.ExportBuffer] = &Func{Signature: wasm.Sig("ii", "i"), Body: I32(Region)}
	for h := range hostabi.Hook(hostabi.NumHooks) {
		g.Hook(h, Echo)
	}
	return g
}

// With is a module that is good but for one change.
func With(change func(*Guest)) []byte {
	g := NewGuest()
	change(g)
	return g.Build()
}

// Hook sets the body of a hook.
func (g *Guest) Hook(h hostabi.Hook, body []byte) *Guest {
	g.Exports[h.Export()] = &Func{Signature: wasm.Sig("i", "I"), Body: body}
	return g
}

// Only leaves the hook h and takes the others away.
func (g *Guest) Only(h hostabi.Hook) *Guest {
	for other := range hostabi.Hook(hostabi.NumHooks) {
		if other != h {
			delete(g.Exports, other.Export())
		}
	}
	return g
}

// Export sets a function that is no hook.
func (g *Guest) Export(name string, s wasm.Signature, body ...byte) *Guest {
	g.Exports[name] = &Func{Signature: s, Body: body}
	return g
}

// Helper adds a function and returns the instruction that calls it. Imports are
// to be added before.
func (g *Guest) Helper(s wasm.Signature, body ...byte) (call []byte) {
	g.Helpers = append(g.Helpers, &Func{Signature: s, Body: body})
	return wasm.AppendU32([]byte{wasm.OpCall}, uint32(len(g.Imports)+len(g.Helpers)-1))
}

// Importing adds an import and returns the instruction that calls it.
func (g *Guest) Importing(module, name string, s wasm.Signature) (call []byte) {
	g.Imports = append(g.Imports, Import{module, name, s})
	return wasm.AppendU32([]byte{wasm.OpCall}, uint32(len(g.Imports)-1))
}

// Build writes the module. Functions are numbered: imports, helpers, exports by
// name, start.
func (g *Guest) Build() []byte {
	types := slices.Clone(g.Types)
	typeOf := func(s wasm.Signature) []byte {
		i := slices.Index(types, s)
		if i < 0 {
			i = len(types)
			types = append(types, s)
		}
		return wasm.AppendU32(nil, uint32(i))
	}
	var imports, funcs, exports, code [][]byte
	for _, i := range g.Imports {
		imports = append(imports, Join(wasm.AppendName(nil, i.Module), wasm.AppendName(nil, i.Name), []byte{0}, typeOf(i.Signature)))
	}
	add := func(f *Func) uint32 {
		funcs = append(funcs, typeOf(f.Signature))
		locals := f.Locals
		if locals == nil {
			locals = []byte{0}
		}
		body := Join(locals, f.Body, []byte{wasm.OpEnd})
		code = append(code, append(wasm.AppendU32(nil, uint32(len(body))), body...))
		return uint32(len(imports) + len(funcs) - 1)
	}
	for _, f := range g.Helpers {
		add(f)
	}
	all := maps.Clone(g.Raw)
	for _, name := range slices.Sorted(maps.Keys(g.Exports)) {
		all[name] = Export{0, add(g.Exports[name])}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		exports = append(exports, wasm.AppendU32(append(wasm.AppendName(nil, name), all[name].Kind), all[name].Index))
	}
	var start []byte
	if g.Start != nil {
		start = wasm.AppendU32(nil, add(&Func{Body: g.Start}))
	}
	var typeList [][]byte
	for _, t := range types {
		typeList = append(typeList, Join([]byte{0x60}, wasm.AppendName(nil, t.Params), wasm.AppendName(nil, t.Results)))
	}

	out := slices.Concat([]byte(wasm.Header), g.Custom)
	section := func(id byte, items [][]byte) {
		if len(items) > 0 {
			out = wasm.AppendSection(out, id, append(wasm.AppendU32(nil, uint32(len(items))), Join(items...)...))
		}
	}
	section(wasm.SecType, typeList)
	section(wasm.SecImport, imports)
	section(wasm.SecFunction, funcs)
	section(wasm.SecTable, g.Tables)
	if g.Memory != nil {
		section(wasm.SecMemory, [][]byte{g.Memory})
	}
	section(wasm.SecGlobal, g.Globals)
	section(wasm.SecExport, exports)
	if start != nil {
		out = wasm.AppendSection(out, wasm.SecStart, start)
	}
	section(wasm.SecElement, g.Elems)
	section(wasm.SecCode, code)
	return out
}
