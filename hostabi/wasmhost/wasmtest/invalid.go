package wasmtest

import (
	"bytes"
	"slices"
	"strings"

	"weir/hostabi"
	"weir/hostabi/wasmhost/wasm"
)

// Invalid is a module that is refused for its bytes.
type Invalid struct {
	Wasm  []byte
	Names []string // the words that help
}

// InvalidModules are modules that must not be served, by what is wrong with them.
func InvalidModules() map[string]Invalid {
	without := func(name string) []byte { return With(func(g *Guest) { delete(g.Exports, name) }) }
	many := func(n int, locals ...byte) []byte {
		return With(func(g *Guest) { g.Helpers = slices.Repeat([]*Func{{Locals: locals}}, n) })
	}
	return map[string]Invalid{
		"empty":                  {nil, []string{"not a WebAssembly module"}},
		"a component":            {[]byte("\x00asm\x0d\x00\x01\x00"), []string{"component", "core module"}},
		"cut off":                {NewGuest().Build()[:50], []string{"malformed"}},
		"a new section":          {With(func(g *Guest) { g.Custom = []byte{13, 1, 0} }), []string{"section 13", "exceptions"}},
		"two memories":           {With(func(g *Guest) { g.Custom = []byte{wasm.SecMemory, 3, 1, 0, 1} }), []string{"out of order"}},
		"a command":              {With(func(g *Guest) { g.Export("_start", wasm.Signature{}) }), []string{"_start", "-buildmode=c-shared"}},
		"no memory":              {With(func(g *Guest) { g.Memory = nil; delete(g.Raw, "memory") }), []string{`"memory"`}},
		"memory not exported":    {With(func(g *Guest) { delete(g.Raw, "memory") }), []string{`"memory"`}},
		"memory too large":       {With(func(g *Guest) { g.Memory = []byte{0, 0x81, 2} }), []string{"257", "256"}},
		"shared memory":          {With(func(g *Guest) { g.Memory = []byte{3, 1, 2} }), []string{"shared"}},
		"table too large":        {With(func(g *Guest) { g.Tables = [][]byte{{0x70, 0, 0x91, 0x4E}} }), []string{"10001", "10000"}},
		"too many tables":        {With(func(g *Guest) { g.Tables = slices.Repeat([][]byte{{0x70, 0, 1}}, 17) }), []string{"16"}},
		"imported file":          {With(func(g *Guest) { g.Importing(wasm.WASI, "path_open", wasm.Sig("i", "i")) }), []string{wasm.WASI + ".path_open", "file system"}},
		"imported abort":         {With(func(g *Guest) { g.Importing("env", "abort", wasm.Sig("iiii", "")) }), []string{"env.abort", "--use abort="}},
		"wrongly typed log":      {With(func(g *Guest) { g.Importing("weir_v1", "log", wasm.Sig("ii", "")) }), []string{"weir_v1.log", "(i32, i32, i32) -> ()"}},
		"no weir_abi":            {without("weir_abi"), []string{"weir_abi", "() -> (i32)"}},
		"no weir_buffer":         {without("weir_buffer"), []string{"weir_buffer", "(i32, i32) -> (i32)"}},
		"wrong weir_abi":         {With(func(g *Guest) { g.Export("weir_abi", wasm.Sig("", "I"), I64(1)...) }), []string{"weir_abi", "() -> (i64)", "() -> (i32)"}},
		"wrong weir_buffer":      {With(func(g *Guest) { g.Export("weir_buffer", wasm.Sig("i", "i"), I32(1)...) }), []string{"weir_buffer", "(i32, i32) -> (i32)"}},
		"wrong hook":             {With(func(g *Guest) { g.Export("weir_admit", wasm.Sig("i", "i"), I32(1)...) }), []string{"weir_admit", "(i32) -> (i64)"}},
		"wrong _initialize":      {With(func(g *Guest) { g.Export("_initialize", wasm.Sig("", "i"), I32(1)...) }), []string{"_initialize", "() -> ()"}},
		"a memory for a hook":    {With(func(g *Guest) { delete(g.Exports, "weir_admit"); g.Raw["weir_admit"] = Export{Kind: 2, Index: 0} }), []string{"weir_admit", "memory", "(i32) -> (i64)"}},
		"a hook that is nowhere": {With(func(g *Guest) { delete(g.Exports, "weir_admit"); g.Raw["weir_admit"] = Export{Kind: 0, Index: 99} }), []string{"weir_admit"}},
		"the host's global":      {With(func(g *Guest) { g.Hook(hostabi.Admit, Join(I32(9), []byte{wasm.OpGlobalSet, 0}, Echo)) }), []string{"global 0"}},
		"the host's global out":  {With(func(g *Guest) { g.Raw["g"] = Export{Kind: 3, Index: 0} }), []string{"global 0"}},
		"a tail call":            {With(func(g *Guest) { g.Hook(hostabi.Admit, []byte{0x12, 0}) }), []string{"0x12", "tail calls"}},
		"too many locals":        {With(func(g *Guest) { g.Exports["weir_admit"].Locals = []byte{1, 0x81, 0x20, 0x7F} }), []string{"4096"}},
		"too many locals in all": {many(129, 1, 0x80, 0x20, 0x7F), []string{"524288"}},
		"too many functions":     {many(1 << 16), []string{"section 3", "65536"}},
		"too many data segments": {With(func(g *Guest) { g.Custom = []byte{wasm.SecData, 3, 0x81, 0x80, 0x10} }), []string{"section 11", "262145", "262144"}},
		"too many elements": {With(func(g *Guest) {
			g.Elems = slices.Repeat([][]byte{Join([]byte{1, 0}, wasm.AppendU32(nil, 1<<15), make([]byte, 1<<15))}, 3)
		}), []string{"element segments", "65536"}},
		"too many checks": {With(func(g *Guest) {
			loops := bytes.Repeat([]byte{wasm.OpLoop, wasm.BlockEmpty, wasm.OpEnd}, 300_000)
			g.Helpers = slices.Repeat([]*Func{{Body: loops}}, 2)
		}), []string{"12582912", "checks"}},
		"too many parameters":   {With(func(g *Guest) { g.Types = []wasm.Signature{{Params: strings.Repeat("\x7F", 129)}} }), []string{"129", "128"}},
		"too many results":      {With(func(g *Guest) { g.Types = []wasm.Signature{{Params: "\x7F", Results: strings.Repeat("\x7F", 128)}} }), []string{"129", "128"}},
		"an import's long name": {With(func(g *Guest) { g.Importing("env", strings.Repeat("n", 1025), wasm.Signature{}) }), []string{"section 2", "1024"}},
		"an export's long name": {With(func(g *Guest) { g.Export("weir_"+strings.Repeat("n", 1020), wasm.Signature{}) }), []string{"section 7", "1024"}},
		"a typed reference":     {With(func(g *Guest) { g.Exports["weir_admit"].Locals = []byte{1, 1, 0x63, 0} }), []string{"0x63"}},
	}
}
