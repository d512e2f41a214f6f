package wasmhost

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"weir/hostabi"
)

// Every form of instruction still means the same after the module is rewritten:
// each body leaves an i32.
func TestRewrittenCodeMeansTheSame(t *testing.T) {
	v128 := func(b byte) []byte { return join([]byte{opSIMD, 12}, bytes.Repeat([]byte{b}, 16)) }
	simd := func(op ...byte) []byte { return append([]byte{opSIMD}, op...) }
	misc := func(op ...byte) []byte { return append([]byte{opMisc}, op...) }
	indirect := func(entry int32, table byte) func(*guest) []byte {
		return func(g *guest) []byte { return join(i32(entry), []byte{opCallIndirect, 0, table}) }
	}
	constant := func(b ...byte) func(*guest) []byte { return func(*guest) []byte { return b } }
	for name, c := range map[string]struct {
		body func(*guest) []byte
		want uint32
	}{
		"call":       {constant(opCall, 2), 22},
		"table 0":    {indirect(0, 0), 11},
		"form 0":     {indirect(1, 0), 22},
		"form 2":     {indirect(2, 1), 22},
		"form 4":     {indirect(3, 0), 11},
		"form 6":     {indirect(4, 1), 11},
		"form 1":     {constant(join(i32(5), i32(0), i32(1), misc(12, 4, 0), misc(13, 4), i32(5), []byte{opCallIndirect, 0, 0})...), 22},
		"form 5":     {constant(join(i32(6), i32(0), i32(1), misc(12, 5, 0), i32(6), []byte{opCallIndirect, 0, 0})...), 11},
		"ref.func":   {constant(join(i32(7), []byte{opRefFunc, 2, opTableSet, 0}, i32(7), []byte{opCallIndirect, 0, 0})...), 22},
		"ref global": {constant(join(i32(8), []byte{opGlobalGet, 0, opTableSet, 0}, i32(8), []byte{opCallIndirect, 0, 0})...), 22},
		"table ops": {constant(join(
			i32(0), []byte{opRefNull, 0x70}, i32(3), misc(17, 1), // fill
			i32(5), i32(0), i32(2), misc(14, 0, 0), // copy 0..1 to 5..6
			i32(6), []byte{opCallIndirect, 0, 0}, i32(0), []byte{0x25, 1, opRefIsNull, 0x6A}, misc(16, 1), []byte{0x6A})...), 22 + 1 + 10},
		"globals":  {constant(join(i32(5), []byte{opGlobalSet, 1, opGlobalGet, 1})...), 5},
		"br_table": {constant(join([]byte{opBlock, blockEmpty, opBlock, blockEmpty, opBlock, blockEmpty}, i32(1), []byte{opBrTable, 2, 0, 1, 2, opEnd, opEnd}, i32(7), []byte{0x0F, opEnd}, i32(8))...), 7},
		"if else":  {constant(join(i32(0), []byte{opIf, 0x7F}, i32(1), []byte{opElse}, i32(2), []byte{opEnd})...), 2},
		"a loop that counts": {constant(join(
			i32(1000), []byte{0x21, 1, opLoop, blockEmpty, opLocalGet, 0}, i32(3), []byte{0x6A, 0x21, 0, opLocalGet, 1}, i32(1), []byte{opI32Sub, opLocalTee, 1, opBrIf, 0, opEnd, opLocalGet, 0})...), 3000},
		"block with parameters": {constant(join(i32(4), []byte{opBlock, 1}, i32(2), []byte{0x6C, opEnd})...), 8},
		"loop with parameters":  {constant(join(i32(4), []byte{opLoop, 0x81, 0}, i32(2), []byte{0x6C, opEnd})...), 8}, // the index in two bytes
		"select":                {constant(join(i32(1), i32(2), i32(0), []byte{0x1B})...), 2},
		"typed select":          {constant(join(i32(1), i32(2), i32(1), []byte{opSelectT, 1, 0x7F})...), 1},
		"memory ops": {constant(join(
			i32(0), i32(7), i32(64), misc(11, 0), // fill
			i32(100), i32(0), i32(64), misc(10, 0, 0), // copy
			i32(163), []byte{0x2D, 0, 0, opMemorySize, 0, 0x6A}, i32(1), []byte{opMemoryGrow, 0, 0x6A, opMemorySize, 0, 0x6A})...), 7 + 2 + 2 + 3},
		"wide constants": {constant(join(i64(-1<<63), []byte{0x50, opF64Const, 0, 0, 0, 0, 0, 0, 0xF0, 0x3F}, misc(2), []byte{0x6A, opF32Const, 0, 0, 0x80, 0x3F}, misc(0), []byte{0x6A})...), 2},
		"lanes":          {constant(join(v128(3), simd(22, 15))...), 3},
		"shuffle":        {constant(join(v128(3), v128(4), simd(13), bytes.Repeat([]byte{16}, 16), simd(22, 0))...), 4},
		"SIMD sum":       {constant(join(v128(1), v128(2), simd(0xAE, 1), simd(27, 0))...), 0x03030303},
		"SIMD store":     {constant(join(i32(0), v128(9), simd(11, 4, 0), i32(0), v128(0), simd(84, 0, 3, 0), simd(22, 0))...), 9},
		"straight code":  {constant(join(i32(0), bytes.Repeat(join(i32(1), []byte{0x6A}), 3*stride))...), 3 * stride},
		"unreachable":    {constant(join(i32(6), []byte{0x0F, opLoop, blockEmpty, 0x0B}, misc(10, 0, 0), []byte{opMemoryGrow, 0})...), 6},
	} {
		t.Run(name, func(t *testing.T) {
			engines(t, func(t *testing.T, engine string) {
				g := newGuest()
				g.types = []signature{sig("", "i"), sig("i", "i")}
				g.importing(hostabi.ImportModule, hostabi.ImportLog, sig("iii", "")) // function 0
				g.helper(sig("", "i"), i32(11)...)
				g.helper(sig("", "i"), i32(22)...)
				g.globals = [][]byte{{0x70, 0, opRefFunc, 2, opEnd}, join([]byte{0x7F, 1}, i32(0), []byte{opEnd})}
				g.tables = [][]byte{{0x70, 0, 20}, {0x70, 0, 10}}
				at := func(i int32) []byte { return append(i32(i), opEnd) }
				g.elems = [][]byte{
					join([]byte{0}, at(0), []byte{2, 1, 2}),
					join([]byte{2, 1}, at(2), []byte{0, 1, 2}),
					join([]byte{4}, at(3), []byte{1, opRefFunc, 1, opEnd}),
					join([]byte{6, 1}, at(4), []byte{0x70, 1, opRefFunc, 1, opEnd}),
					{1, 0, 1, 2},
					{5, 0x70, 1, opRefFunc, 1, opEnd},
					{3, 0, 1, 2},
					{7, 0x70, 1, opRefNull, 0x70, opEnd},
				}
				run := g.helper(sig("i", "i"), c.body(g)...)
				g.helpers[2].locals = []byte{1, 1, 0x7F}
				g.hook(hostabi.Admit, stored(join(i32(0), run)))
				got := ask(load(t, engine, g.build()), hostabi.Admit, "")
				if len(got) != 4 || binary.LittleEndian.Uint32([]byte(got)) != c.want {
					t.Errorf("got %x, want %x", got, c.want)
				}
			})
		})
	}
}

// Whatever the bytes are, prepare returns; and what it lets through is valid
// afterwards if it was before.
func FuzzPrepare(f *testing.F) {
	f.Add([]byte{})
	f.Add(newGuest().build())
	g := newGuest().hook(hostabi.Admit, when(forever)).hook(hostabi.ErrorHook, join(i32(0), i32(0), i32(1), []byte{opMisc, 10, 0, 0}, echo))
	g.importing(wasiModule, "proc_exit", sig("i", ""))
	g.start = []byte{}
	g.tables = [][]byte{{0x70, 0, 2}}
	g.elems = [][]byte{join([]byte{0}, i32(0), []byte{opEnd, 2, 0, 1})}
	g.globals = [][]byte{{0x70, 0, opRefFunc, 1, opEnd}}
	f.Add(g.build())
	f.Fuzz(func(t *testing.T, wasm []byte) {
		d, err := prepare(wasm)
		if err != nil {
			return
		}
		before := valid(t.Context(), wasm)
		for _, f := range []form{{}, {marks: true}, {pages: 3, resident: make(set, d.marks())}, {pages: 3}} {
			rewritten, err := d.write(f)
			if err != nil {
				return
			}
			if err := valid(t.Context(), rewritten); before == nil && !d.wild && err != nil {
				t.Errorf("no longer valid as %+v: %v\n%x\n%x", f, err, wasm, rewritten)
			}
		}
	})
}

func valid(ctx context.Context, wasm []byte) error {
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(api.CoreFeaturesV2))
	defer r.Close(ctx)
	_, err := r.CompileModule(ctx, wasm)
	return err
}

func TestCallsDoNotAllocate(t *testing.T) {
	m := load(t, Compiler, newGuest().build())
	in, out := []byte("key"), make([]byte, 0, hostabi.MaxOutput)
	if n := testing.AllocsPerRun(100, func() { _, _, _ = m.Call(hostabi.Classify, in, out) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
