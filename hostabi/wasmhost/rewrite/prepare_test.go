package rewrite

import (
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
