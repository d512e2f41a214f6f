package wasmhost

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"weir/hostabi"
	. "weir/hostabi/wasmhost/wasm"
	. "weir/hostabi/wasmhost/wasmtest"
)

// A trap costs what its stack takes to be written, and the guest chose the names.
func TestLongNamesMakeNoLongTrap(t *testing.T) {
	names := AppendName(AppendU32(AppendU32(nil, 1), 0), strings.Repeat("n", 1<<20)+"\xFF")
	g := NewGuest()
	g.Custom = AppendSection(nil, SecCustom, Join(AppendName(nil, "name"), []byte{1}, AppendName(nil, string(names))))
	deeper := g.Helper(Sig("i", ""), OpLocalGet, 0, OpIf, BlockEmpty,
		OpLocalGet, 0, OpI32Const, 1, OpI32Sub, OpCall, 0, OpElse, OpUnreachable, OpEnd)
	wasm := g.Hook(hostabi.Classify, When(Join(I32(50), deeper))).Build()
	engines(t, func(t *testing.T, engine string) {
		m := load(t, engine, wasm)
		_, _, err := m.Call(hostabi.Classify, []byte("x"), nil)
		if err == nil || len(err.Error()) > 64<<10 || !strings.Contains(err.Error(), "nnnn") {
			t.Errorf("the error has %d bytes: %.100v", len(err.Error()), err)
		}
	})
}

// The interpreter bounds how many calls are within each other, and not what each
// leaves on the stack: 1,900 times 1 MiB are more than a machine has.
func TestStacksAreBounded(t *testing.T) {
	build := func(depth int32) []byte {
		g := NewGuest()
		deeper := g.Helper(Sig("i", ""), Join([]byte{OpLocalGet, 0, 0x45, OpBrIf, 0},
			bytes.Repeat([]byte{OpLocalGet, 1}, 1<<16), []byte{OpLocalGet, 0}, I32(1), []byte{OpI32Sub, OpCall, 0, 0x0F})...)
		g.Helpers[0].Locals = []byte{1, 1, 0x7B}
		return g.Hook(hostabi.Configure, Join(I32(depth), deeper, Echo)).Build()
	}
	for _, leanFrom := range []int{0, 1} {
		load(t, Interpreter, build(4), func(o *Options) { o.leanFrom = leanFrom })
		m, err := Load(t.Context(), Options{Wasm: build(1900), leanFrom: leanFrom, InitTimeout: time.Minute})
		if err == nil {
			m.Close()
		}
		if !errors.Is(err, errStack) || !strings.Contains(err.Error(), "recurses") {
			t.Errorf("leanFrom %d: %v", leanFrom, err)
		}
	}
}

// A call that needed much stack leaves none of it to its instance.
func TestDeepStacksComeBack(t *testing.T) {
	const most = 16 << 20 // bytes; the calls take 20 MB to 100 MB
	build := func(depth int32, locals, first []byte) *Guest {
		g := NewGuest()
		deeper := g.Helper(Sig("i", "i"), Join(first, []byte{
			OpLocalGet, 0, OpIf, 0x7F,
			OpLocalGet, 0, OpLocalGet, 0, OpI32Const, 1, OpI32Sub, OpCall, 0, 0x6A, OpElse, OpLocalGet, 0, OpEnd,
		})...)
		g.Helpers[0].Locals = locals
		deep := Join(I32(depth), deeper, []byte{0x1A})
		return g.Hook(hostabi.Configure, Join(deep, Echo)).Hook(hostabi.Classify, When(deep))
	}
	// What is never executed, and makes the frame large: 2,000 values across a call.
	const values = 2000
	large := Join([]byte{OpLocalGet, 0}, I32(-1), []byte{0x46, OpIf, BlockEmpty}, I32(0),
		bytes.Repeat([]byte{OpI32Const, 0, 0x29, 3, 8}, values), I32(0), []byte{OpCall, 0, 0x1A},
		bytes.Repeat([]byte{0x85}, values-1), []byte{0x37, 3, 8, OpEnd})
	for _, c := range []struct {
		name, engine string
		wasm         []byte
	}{
		{"many locals", Interpreter, build(500, Join([]byte{1}, AppendU32(nil, 4096), []byte{0x7B}), nil).Build()},
		{"many calls", Compiler, build(1<<20, nil, nil).Build()},
		{"large frames", Compiler, build(550, nil, large).Build()},
	} {
		t.Run(c.name, func(t *testing.T) {
			heap := func() int64 {
				var s runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&s)
				return int64(s.HeapAlloc)
			}
			before := heap()
			m := load(t, c.engine, c.wasm, func(o *Options) { o.CallTimeout = o.InitTimeout })
			if more := heap() - before; more > most {
				t.Errorf("%d bytes more after weir_configure", more)
			}
			if _, _, err := m.Call(hostabi.Classify, []byte("x"), nil); err != nil {
				t.Fatal(err)
			}
			if more := heap() - before; more > most {
				t.Errorf("%d bytes more after a call", more)
			}
		})
	}
}
