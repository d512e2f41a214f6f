package rewrite

import (
	"bytes"
	"slices"
	"testing"

	"weir/hostabi"
	"weir/hostabi/wasmhost/wasm"
	. "weir/hostabi/wasmhost/wasmtest"
)

// written is a draft of a guest that was written once.
func written(t *testing.T, g *Guest, f Form) *Draft {
	t.Helper()
	d, err := Prepare(g.Build(), importable)
	if err == nil {
		_, err = d.Write(f)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What a function calls by name is reached through others, whatever is imported,
// and what it calls through a table is not.
func TestReach(t *testing.T) {
	g := NewGuest()
	log := g.Importing("weir_v1", "log", wasm.Sig("iii", ""))
	g.Types = []wasm.Signature{{}}
	g.Tables = [][]byte{{0x70, 0, 1}}
	zero := g.Helper(wasm.Signature{})
	one := g.Helper(wasm.Signature{}, zero...)
	g.Helper(wasm.Signature{}, Join(I32(1), I32(2), I32(3), log, one, I32(0), []byte{wasm.OpCallIndirect, 0, 0})...)
	for range 64 { // so that one word is not enough
		g.Helper(wasm.Signature{})
	}
	g.Helper(wasm.Signature{}, Join(zero, []byte{wasm.OpRefFunc, 5, 0x1A})...) // number 67; 5 with the import is number 4
	d := written(t, g, Form{})
	before := make(Set, d.Marks())
	before.Add(66)
	for fn, want := range map[uint32][]uint32{0: {0, 66}, 2: {0, 1, 2, 66}, 67: {0, 4, 66, 67}} {
		var got []uint32
		for n, s := uint32(0), d.Reach(before, fn); n < 64*uint32(len(s)); n++ {
			if s.Has(n) {
				got = append(got, n)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("from %d: %v, want %v", fn, got, want)
		}
	}
	if before.Has(0) {
		t.Error("the set it began with has changed")
	}
}

// A module that has begun is written as before, and nothing else of its bytes is kept.
func TestABegunModuleKeepsNoBytesOfItsFile(t *testing.T) {
	g := NewGuest()
	g.Start = []byte{}
	module := wasm.AppendSection(g.Build(), wasm.SecData, Join([]byte{1, 0}, I32(0), []byte{wasm.OpEnd, 1, 'a'}))
	module = wasm.AppendSection(module, wasm.SecCustom, Join(wasm.AppendName(nil, "name"), []byte{1, 4, 1, 0, 1, 'f'}))
	d, err := Prepare(module, importable)
	if err != nil {
		t.Fatal(err)
	}
	write := func() []byte {
		b, err := d.Write(Form{Pages: 2})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	before := write()
	d.Begun()
	clear(module)
	if !bytes.Equal(write(), before) {
		t.Error("it is written otherwise")
	}
	if d.sections[wasm.SecData] != nil {
		t.Error("its data is kept")
	}
}

func TestWorthLean(t *testing.T) {
	d := written(t, NewGuest(), Form{})
	size := len(d.sections[wasm.SecCode])
	if !d.WorthLean(size) || d.WorthLean(size+1) {
		t.Error("not by its size")
	}
	wild := NewGuest()
	wild.Globals = [][]byte{{0x70, 1, wasm.OpRefNull, 0x70, wasm.OpEnd}}
	if d := written(t, wild, Form{Marks: true}); d.WorthLean(1) || d.States() != 1 {
		t.Errorf("with a reference that changes it is; %d globals change", d.States())
	}
}

// Two builds of a function that differ in their operands have one print.
func TestPrints(t *testing.T) {
	prints := func(operand int32, more ...byte) []uint64 {
		g := NewGuest()
		g.Helper(wasm.Signature{}, Join(I32(operand), []byte{0x1A}, more)...)
		return written(t, g.Only(hostabi.Admit), Form{Marks: true}).Prints()
	}
	a, b, c := prints(1), prints(1<<20), prints(1, 0x01)
	if !slices.Equal(a, b) || a[0] == c[0] || !slices.Equal(a[1:], c[1:]) || len(a) != 4 {
		t.Errorf("%x, %x, %x", a, b, c)
	}
}
