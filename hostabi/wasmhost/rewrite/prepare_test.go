package rewrite

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"weir/hostabi"
	"weir/hostabi/wasmhost/wasm"
	. "weir/hostabi/wasmhost/wasmtest"
)

// importable is a host with two functions.
func importable(module, name string) (wasm.Signature, bool) {
	switch module + "." + name {
	case "weir_v1.log":
		return wasm.Sig("iii", ""), true
	case wasm.WASI + ".proc_exit":
		return wasm.Sig("i", ""), true
	}
	return wasm.Signature{}, false
}

// Each module is refused by an error that names what is wrong and what to do.
func TestInvalidModulesAreRefused(t *testing.T) {
	for name, m := range InvalidModules() {
		d, err := Prepare(m.Wasm, importable)
		if err == nil {
			_, err = d.Write(Form{})
		}
		refused, ok := err.(*Error)
		if !ok || refused.Reason == "" || refused.Remedy == "" {
			t.Errorf("%s: the error is %#v", name, err)
			continue
		}
		for _, w := range m.Names {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: the error does not name %q: %v", name, w, err)
			}
		}
	}
}

// A module may declare that it grows to no more than ABI.md §8 says, and to less.
func TestDeclaredMaximaAreBounded(t *testing.T) {
	u32 := func(n uint32) []byte { return wasm.AppendU32(nil, n) }
	g := NewGuest()
	g.Memory = Join([]byte{1, 2}, u32(hostabi.MaxMemoryPages+1))
	g.Tables = [][]byte{Join([]byte{0x70, 1, 2}, u32(hostabi.MaxTableEntries+1)), {0x70, 0, 2}, {0x70, 1, 2, 3}}
	d, err := Prepare(g.Build(), importable)
	if err != nil {
		t.Fatal(err)
	}
	most := Join([]byte{0x70, 1, 2}, u32(hostabi.MaxTableEntries))
	for section, want := range map[int][]byte{
		wasm.SecMemory: Join([]byte{1, 1, 2}, u32(hostabi.MaxMemoryPages)),
		wasm.SecTable:  Join([]byte{3}, most, most, []byte{0x70, 1, 2, 3}),
	} {
		if got := d.sections[section]; !bytes.Equal(got, want) {
			t.Errorf("section %d: % x, want % x", section, got, want)
		}
	}
}

// What takes long by itself asks for time by itself.
func TestLongInstructionsPay(t *testing.T) {
	for name, op := range map[string][]byte{
		"memory.grow": {wasm.OpMemoryGrow, 0},
		"memory.init": {wasm.OpMisc, 8, 0, 0}, "memory.copy": {wasm.OpMisc, 10, 0, 0}, "memory.fill": {wasm.OpMisc, 11, 0},
		"table.init": {wasm.OpMisc, 12, 0, 0}, "table.copy": {wasm.OpMisc, 14, 0, 0}, "table.grow": {wasm.OpMisc, 15, 0}, "table.fill": {wasm.OpMisc, 17, 0},
	} {
		c := &copier{}
		c.instruction(&reader{b: op})
		if before, ok := bytes.CutSuffix(c.out, op); !ok || !bytes.Contains(before, []byte{wasm.OpCall, 0}) {
			t.Errorf("%s: % x", name, c.out)
		}
	}
	c := &copier{}
	locals := Join([]byte{1}, wasm.AppendU32(nil, maxLocals), []byte{0x7F, wasm.OpEnd})
	if err := c.function(&reader{b: locals}, wasm.Signature{}); err != nil || !bytes.Contains(c.out, I32(1+maxLocals>>localShift)) {
		t.Errorf("%d locals: % x, %v", maxLocals, c.out, err)
	}
}

// Whatever the bytes are, Prepare returns; and what it lets through is valid
// afterwards if it was before.
func FuzzPrepare(f *testing.F) {
	f.Add([]byte{})
	f.Add(NewGuest().Build())
	g := NewGuest().Hook(hostabi.Admit, When(Forever)).Hook(hostabi.ErrorHook, Join(I32(0), I32(0), I32(1), []byte{wasm.OpMisc, 10, 0, 0}, Echo))
	g.Importing(wasm.WASI, "proc_exit", wasm.Sig("i", ""))
	g.Start = []byte{}
	g.Tables = [][]byte{{0x70, 0, 2}}
	g.Elems = [][]byte{Join([]byte{0}, I32(0), []byte{wasm.OpEnd, 2, 0, 1})}
	g.Globals = [][]byte{{0x70, 0, wasm.OpRefFunc, 1, wasm.OpEnd}}
	f.Add(g.Build())
	f.Fuzz(func(t *testing.T, module []byte) {
		d, err := Prepare(module, importable)
		if err != nil {
			return
		}
		before := valid(t.Context(), module)
		for _, f := range []Form{{}, {Marks: true}, {Pages: 3, Resident: make(Set, d.Marks())}, {Pages: 3}} {
			rewritten, err := d.Write(f)
			if err != nil {
				return
			}
			if err := valid(t.Context(), rewritten); before == nil && !d.wild && err != nil {
				t.Errorf("no longer valid as %+v: %v\n%x\n%x", f, err, module, rewritten)
			}
		}
	})
}

func valid(ctx context.Context, module []byte) error {
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(api.CoreFeaturesV2))
	defer r.Close(ctx)
	_, err := r.CompileModule(ctx, module)
	return err
}
