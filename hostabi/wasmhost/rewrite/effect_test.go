package rewrite

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"weir/hostabi/wasmhost/wasm"
	. "weir/hostabi/wasmhost/wasmtest"
)

// What an instruction makes of the height of the operand stack is what the engine
// takes to be valid, for all that compute, load and store.
func TestEffectsAreTheEngines(t *testing.T) {
	constants := map[byte][]byte{
		0x7F: {wasm.OpI32Const, 0}, 0x7E: {wasm.OpI64Const, 0},
		0x7D: {wasm.OpF32Const, 0, 0, 0, 0}, 0x7C: {wasm.OpF64Const, 0, 0, 0, 0, 0, 0, 0, 0},
		0x7B: Join([]byte{wasm.OpSIMD, 12}, make([]byte, 16)), 0x70: {wasm.OpRefNull, 0x70},
	}
	operands := []string{""}
	for x := range constants {
		a := string(x)
		operands = append(operands, a, a+a, a+a+a, a+a+"\x7F", "\x7F"+a, "\x7B"+a, a+"\x7F", "\x7F"+a+"\x7F")
	}
	immediates := [][]byte{nil, {0}, {0, 0}, {0, 0, 0}, make([]byte, 4), make([]byte, 8), make([]byte, 16), {0x70}, {1, 0x7F}}
	known := 0
	check := func(op ...byte) {
		for _, more := range immediates {
			c := &copier{draft: &Draft{}, limit: 1}
			r := &reader{b: Join(op, more)}
			if c.instruction(r); c.refused != nil || r.err != nil || r.more() {
				continue // not all of the instruction, or more than it
			}
			for _, in := range operands {
				for out := range 2 {
					g := NewGuest()
					g.Tables, g.Elems = [][]byte{{0x70, 0, 1}}, [][]byte{{1, 0, 0}}
					g.Globals = [][]byte{{0x7F, 1, wasm.OpI32Const, 0, wasm.OpEnd}}
					var body []byte
					for _, x := range []byte(in) {
						body = append(body, constants[x]...)
					}
					g.Helper(wasm.Sig("i", ""), Join(body, r.b, bytes.Repeat([]byte{0x1A}, out))...)
					if valid(t.Context(), g.Build()) != nil {
						continue
					}
					known++
					c.nesting.height = len(in)
					c.instruction(&reader{b: r.b})
					if c.nesting.height != out {
						t.Errorf("% x with %d operands leaves %d, not %d", op, len(in), c.nesting.height, out)
					}
					return
				}
			}
		}
	}
	for op := range 256 {
		switch b := byte(op); {
		case op < 0x1A, b == wasm.OpMisc, b == wasm.OpSIMD: // control
		default:
			check(b)
		}
		check(wasm.OpMisc, byte(op))
		if op < 0x80 {
			check(wasm.OpSIMD, byte(op))
		} else {
			check(wasm.OpSIMD, byte(op), 1)
		}
	}
	if known < 400 { // of 421
		t.Errorf("only %d instructions were found valid", known)
	}
}

// The height is exact at each end of a block that control comes to, and at that of
// each function.
func TestHeightsAreExact(t *testing.T) {
	g := NewGuest()
	g.Types = []wasm.Signature{wasm.Sig("ii", "i"), wasm.Sig("i", "ii")}
	three := Join(I32(1), I32(2), I32(3))
	call := g.Helper(wasm.Sig("ii", "iii"), Join(three, []byte{wasm.OpReturn, 0x1A, 0x1A}, I32(2), []byte{wasm.OpBlock, 1}, I32(0), []byte{wasm.OpEnd})...)
	g.Helper(wasm.Sig("i", "ii"), Join(three,
		[]byte{wasm.OpLocalGet, 0, wasm.OpIf, 0, 0x1A, wasm.OpElse, wasm.OpUnreachable, wasm.OpLoop, 0, 0x1A, wasm.OpEnd, wasm.OpEnd},
		[]byte{wasm.OpLoop, 0x81, 0, 0x1A}, I32(1), I32(2), call, []byte{0x1A, wasm.OpLocalGet, 0, wasm.OpBrIf, 0, wasm.OpEnd},
		I32(0), []byte{wasm.OpBrTable, 1, 0, 0})...)
	if err := valid(t.Context(), g.Build()); err != nil {
		t.Fatal(err)
	}
	modules := [][]byte{NewGuest().Build(), g.Build()}
	files, _ := filepath.Glob("../../../plugins/*.wasm") // those that were built
	for _, f := range files {
		m, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		modules = append(modules, m)
	}
	for _, m := range modules {
		heights(t, m)
	}
}

func heights(t *testing.T, module []byte) {
	t.Helper()
	d := &Draft{exports: map[string]export{}}
	if err := errors.Join(d.split(module), d.readTypes(), d.each(wasm.SecImport, func(_ uint32, r *reader) error {
		_, _, _ = r.name(), r.name(), r.byte()
		d.imports = append(d.imports, r.u32())
		return nil
	}), d.readFunctions()); err != nil {
		t.Fatal(err)
	}
	c := &copier{draft: d, limit: 1<<32 - 1}
	n := &c.nesting
	for i, body := range d.bodies() {
		r := &reader{b: body}
		for range r.count() {
			r.u32()
			r.byte()
		}
		n.reset(d.typeAt(d.funcs[i]))
		gone := []bool{false} // by open block: control does not come here
		for r.more() {
			last, op := len(gone)-1, r.b[r.off]
			if op == wasm.OpEnd || op == wasm.OpElse {
				if want := n.floor + int(n.open[last].results); !gone[last] && n.height != want {
					t.Fatalf("function %d, byte %d: height %d, not %d", i, r.off, n.height, want)
				}
			}
			c.instruction(r)
			switch op {
			case wasm.OpUnreachable, wasm.OpBr, wasm.OpBrTable, wasm.OpReturn:
				gone[last] = true
			case wasm.OpBlock, wasm.OpLoop, wasm.OpIf:
				gone = append(gone, gone[last])
			case wasm.OpElse:
				gone[last] = gone[last-1]
			case wasm.OpEnd:
				gone = gone[:last]
			}
		}
		if want := len(d.typeAt(d.funcs[i]).Results); c.refused != nil || r.err != nil || len(n.open) != 0 || n.height != want {
			t.Fatalf("function %d: height %d, not %d, with %d blocks open; %v, %v", i, n.height, want, len(n.open), c.refused, r.err)
		}
	}
}
