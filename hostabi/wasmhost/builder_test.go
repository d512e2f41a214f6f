package wasmhost

import (
	"maps"
	"slices"

	"weir/hostabi"
)

// guest is a module under construction; build writes it.
type guest struct {
	types   []signature // the first types, in order
	imports []guestImport
	start   []byte            // body of a start function, if any
	exports map[string]*fn    // functions, by the name they are exported under
	helpers []*fn             // further functions, called by h0, h1, …
	memory  []byte            // limits; nil: no memory section
	tables  [][]byte          // type and limits of each
	globals [][]byte          // type and initial value of each
	elems   [][]byte          // segments
	raw     map[string]export // further exports
	custom  []byte            // a section put in front of the others, as it is
}

type guestImport struct {
	module, name string
	signature
}

type fn struct {
	signature
	locals []byte // groups, without their number; nil: none
	body   []byte // without the last end
}

// region is where the guests under test keep their buffer.
const region = 1024

// newGuest is a good module: every hook echoes its input.
func newGuest() *guest {
	g := &guest{
		memory:  []byte{0, 2},
		exports: map[string]*fn{},
		raw:     map[string]export{hostabi.ExportMemory: {2, 0}},
	}
	g.exports[hostabi.ExportABI] = &fn{signature: sig("", "i"), body: i32(hostabi.Version)}
	g.exports[hostabi.ExportBuffer] = &fn{signature: sig("ii", "i"), body: i32(region)}
	for h := range hostabi.Hook(hostabi.NumHooks) {
		g.hook(h, echo)
	}
	return g
}

// hook sets the body of a hook.
func (g *guest) hook(h hostabi.Hook, body []byte) *guest {
	g.exports[h.Export()] = &fn{signature: sig("i", "I"), body: body}
	return g
}

// only leaves the hook h and takes the others away.
func (g *guest) only(h hostabi.Hook) *guest {
	for other := range hostabi.Hook(hostabi.NumHooks) {
		if other != h {
			delete(g.exports, other.Export())
		}
	}
	return g
}

// export sets a function that is no hook.
func (g *guest) export(name string, s signature, body ...byte) *guest {
	g.exports[name] = &fn{signature: s, body: body}
	return g
}

// helper adds a function and returns the instruction that calls it. Imports are
// to be added before.
func (g *guest) helper(s signature, body ...byte) (call []byte) {
	g.helpers = append(g.helpers, &fn{signature: s, body: body})
	return appendU32([]byte{opCall}, uint32(len(g.imports)+len(g.helpers)-1))
}

// importing adds an import and returns the instruction that calls it.
func (g *guest) importing(module, name string, s signature) (call []byte) {
	g.imports = append(g.imports, guestImport{module, name, s})
	return appendU32([]byte{opCall}, uint32(len(g.imports)-1))
}

// build writes the module. Functions are numbered: imports, helpers, exports by
// name, start.
func (g *guest) build() []byte {
	types := slices.Clone(g.types)
	typeOf := func(s signature) []byte {
		i := slices.Index(types, s)
		if i < 0 {
			i = len(types)
			types = append(types, s)
		}
		return appendU32(nil, uint32(i))
	}
	var imports, funcs, exports, code [][]byte
	for _, i := range g.imports {
		imports = append(imports, join(appendName(nil, i.module), appendName(nil, i.name), []byte{0}, typeOf(i.signature)))
	}
	add := func(f *fn) uint32 {
		funcs = append(funcs, typeOf(f.signature))
		locals := f.locals
		if locals == nil {
			locals = []byte{0}
		}
		body := join(locals, f.body, []byte{opEnd})
		code = append(code, append(appendU32(nil, uint32(len(body))), body...))
		return uint32(len(imports) + len(funcs) - 1)
	}
	for _, f := range g.helpers {
		add(f)
	}
	all := maps.Clone(g.raw)
	for _, name := range slices.Sorted(maps.Keys(g.exports)) {
		all[name] = export{0, add(g.exports[name])}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		exports = append(exports, appendU32(append(appendName(nil, name), all[name].kind), all[name].index))
	}
	var start []byte
	if g.start != nil {
		start = appendU32(nil, add(&fn{body: g.start}))
	}
	var typeList [][]byte
	for _, t := range types {
		typeList = append(typeList, join([]byte{0x60}, appendName(nil, t.params), appendName(nil, t.results)))
	}

	out := slices.Concat(header, g.custom)
	section := func(id byte, items [][]byte) {
		if len(items) > 0 {
			out = appendSection(out, id, append(appendU32(nil, uint32(len(items))), join(items...)...))
		}
	}
	section(secType, typeList)
	section(secImport, imports)
	section(secFunction, funcs)
	section(secTable, g.tables)
	if g.memory != nil {
		section(secMemory, [][]byte{g.memory})
	}
	section(secGlobal, g.globals)
	section(secExport, exports)
	if start != nil {
		out = appendSection(out, secStart, start)
	}
	section(secElement, g.elems)
	section(secCode, code)
	return out
}

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

func i32(v int32) []byte { return appendS32([]byte{opI32Const}, v) }

func i64(v int64) []byte {
	out := []byte{opI64Const}
	for {
		b := byte(v & 0x7F)
		v >>= 7
		if v == 0 && b&0x40 == 0 || v == -1 && b&0x40 != 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}

// Bodies of hooks.
var (
	echo    = []byte{opLocalGet, 0, 0xAD}                           // i64.extend_i32_u(in_len)
	trap    = []byte{0x00}                                          // unreachable
	forever = []byte{opLoop, blockEmpty, 0x0C, 0, opEnd, 0x00}      // loop br 0 end
	input   = join(i32(0), []byte{0x2D, 0}, appendU32(nil, region)) // first byte of the input
	asText  = join([]byte{0x36, 2}, appendU32(nil, region), i64(4)) // store an i32 as the output; the address is below it
)

// when runs bad if the input begins with 'x', else echoes.
func when(bad []byte) []byte {
	return join(input, i32('x'), []byte{0x46, opIf, blockEmpty}, bad, []byte{opEnd}, echo)
}

// stored makes an i32 that body leaves on the stack the output.
func stored(body []byte) []byte { return join(i32(0), body, asText) }
