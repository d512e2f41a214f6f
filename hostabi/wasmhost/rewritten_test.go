package wasmhost

import (
	"bytes"
	"encoding/binary"
	"testing"

	"weir/hostabi"
	. "weir/hostabi/wasmhost/wasm"
	. "weir/hostabi/wasmhost/wasmtest"
)

// Every form of instruction still means the same after the module is rewritten:
// each body leaves an i32.
func TestRewrittenCodeMeansTheSame(t *testing.T) {
	v128 := func(b byte) []byte { return Join([]byte{OpSIMD, 12}, bytes.Repeat([]byte{b}, 16)) }
	simd := func(op ...byte) []byte { return append([]byte{OpSIMD}, op...) }
	misc := func(op ...byte) []byte { return append([]byte{OpMisc}, op...) }
	indirect := func(entry int32, table byte) func(*Guest) []byte {
		return func(g *Guest) []byte { return Join(I32(entry), []byte{OpCallIndirect, 0, table}) }
	}
	const straight = 1500 // instructions that leave no straight line, of 3 bytes each
	constant := func(b ...byte) func(*Guest) []byte { return func(*Guest) []byte { return b } }
	for name, c := range map[string]struct {
		body func(*Guest) []byte
		want uint32
	}{
		"call":       {constant(OpCall, 2), 22},
		"table 0":    {indirect(0, 0), 11},
		"form 0":     {indirect(1, 0), 22},
		"form 2":     {indirect(2, 1), 22},
		"form 4":     {indirect(3, 0), 11},
		"form 6":     {indirect(4, 1), 11},
		"form 1":     {constant(Join(I32(5), I32(0), I32(1), misc(12, 4, 0), misc(13, 4), I32(5), []byte{OpCallIndirect, 0, 0})...), 22},
		"form 5":     {constant(Join(I32(6), I32(0), I32(1), misc(12, 5, 0), I32(6), []byte{OpCallIndirect, 0, 0})...), 11},
		"ref.func":   {constant(Join(I32(7), []byte{OpRefFunc, 2, OpTableSet, 0}, I32(7), []byte{OpCallIndirect, 0, 0})...), 22},
		"ref global": {constant(Join(I32(8), []byte{OpGlobalGet, 0, OpTableSet, 0}, I32(8), []byte{OpCallIndirect, 0, 0})...), 22},
		"table ops": {constant(Join(
			I32(0), []byte{OpRefNull, 0x70}, I32(3), misc(17, 1), // fill
			I32(5), I32(0), I32(2), misc(14, 0, 0), // copy 0..1 to 5..6
			I32(6), []byte{OpCallIndirect, 0, 0}, I32(0), []byte{0x25, 1, OpRefIsNull, 0x6A}, misc(16, 1), []byte{0x6A})...), 22 + 1 + 10},
		"globals":  {constant(Join(I32(5), []byte{OpGlobalSet, 1, OpGlobalGet, 1})...), 5},
		"br_table": {constant(Join([]byte{OpBlock, BlockEmpty, OpBlock, BlockEmpty, OpBlock, BlockEmpty}, I32(1), []byte{OpBrTable, 2, 0, 1, 2, OpEnd, OpEnd}, I32(7), []byte{0x0F, OpEnd}, I32(8))...), 7},
		"if else":  {constant(Join(I32(0), []byte{OpIf, 0x7F}, I32(1), []byte{OpElse}, I32(2), []byte{OpEnd})...), 2},
		"a loop that counts": {constant(Join(
			I32(1000), []byte{0x21, 1, OpLoop, BlockEmpty, OpLocalGet, 0}, I32(3), []byte{0x6A, 0x21, 0, OpLocalGet, 1}, I32(1), []byte{OpI32Sub, OpLocalTee, 1, OpBrIf, 0, OpEnd, OpLocalGet, 0})...), 3000},
		"block with parameters": {constant(Join(I32(4), []byte{OpBlock, 1}, I32(2), []byte{0x6C, OpEnd})...), 8},
		"loop with parameters":  {constant(Join(I32(4), []byte{OpLoop, 0x81, 0}, I32(2), []byte{0x6C, OpEnd})...), 8}, // the index in two bytes
		"select":                {constant(Join(I32(1), I32(2), I32(0), []byte{0x1B})...), 2},
		"typed select":          {constant(Join(I32(1), I32(2), I32(1), []byte{OpSelectT, 1, 0x7F})...), 1},
		"memory ops": {constant(Join(
			I32(0), I32(7), I32(64), misc(11, 0), // fill
			I32(100), I32(0), I32(64), misc(10, 0, 0), // copy
			I32(163), []byte{0x2D, 0, 0, OpMemorySize, 0, 0x6A}, I32(1), []byte{OpMemoryGrow, 0, 0x6A, OpMemorySize, 0, 0x6A})...), 7 + 2 + 2 + 3},
		"wide constants": {constant(Join(I64(-1<<63), []byte{0x50, OpF64Const, 0, 0, 0, 0, 0, 0, 0xF0, 0x3F}, misc(2), []byte{0x6A, OpF32Const, 0, 0, 0x80, 0x3F}, misc(0), []byte{0x6A})...), 2},
		"lanes":          {constant(Join(v128(3), simd(22, 15))...), 3},
		"shuffle":        {constant(Join(v128(3), v128(4), simd(13), bytes.Repeat([]byte{16}, 16), simd(22, 0))...), 4},
		"SIMD sum":       {constant(Join(v128(1), v128(2), simd(0xAE, 1), simd(27, 0))...), 0x03030303},
		"SIMD store":     {constant(Join(I32(0), v128(9), simd(11, 4, 0), I32(0), v128(0), simd(84, 0, 3, 0), simd(22, 0))...), 9},
		"straight code":  {constant(Join(I32(0), bytes.Repeat(Join(I32(1), []byte{0x6A}), straight))...), straight},
		"unreachable":    {constant(Join(I32(6), []byte{0x0F, OpLoop, BlockEmpty, 0x0B}, misc(10, 0, 0), []byte{OpMemoryGrow, 0})...), 6},
	} {
		t.Run(name, func(t *testing.T) {
			engines(t, func(t *testing.T, engine string) {
				g := NewGuest()
				g.Types = []Signature{Sig("", "i"), Sig("i", "i")}
				g.Importing(hostabi.ImportModule, hostabi.ImportLog, Sig("iii", "")) // function 0
				g.Helper(Sig("", "i"), I32(11)...)
				g.Helper(Sig("", "i"), I32(22)...)
				g.Globals = [][]byte{{0x70, 0, OpRefFunc, 2, OpEnd}, Join([]byte{0x7F, 1}, I32(0), []byte{OpEnd})}
				g.Tables = [][]byte{{0x70, 0, 20}, {0x70, 0, 10}}
				at := func(i int32) []byte { return append(I32(i), OpEnd) }
				g.Elems = [][]byte{
					Join([]byte{0}, at(0), []byte{2, 1, 2}),
					Join([]byte{2, 1}, at(2), []byte{0, 1, 2}),
					Join([]byte{4}, at(3), []byte{1, OpRefFunc, 1, OpEnd}),
					Join([]byte{6, 1}, at(4), []byte{0x70, 1, OpRefFunc, 1, OpEnd}),
					{1, 0, 1, 2},
					{5, 0x70, 1, OpRefFunc, 1, OpEnd},
					{3, 0, 1, 2},
					{7, 0x70, 1, OpRefNull, 0x70, OpEnd},
				}
				run := g.Helper(Sig("i", "i"), c.body(g)...)
				g.Helpers[2].Locals = []byte{1, 1, 0x7F}
				g.Hook(hostabi.Admit, Stored(Join(I32(0), run)))
				got := ask(load(t, engine, g.Build()), hostabi.Admit, "")
				if len(got) != 4 || binary.LittleEndian.Uint32([]byte(got)) != c.want {
					t.Errorf("got %x, want %x", got, c.want)
				}
			})
		})
	}
}
