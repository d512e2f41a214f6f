package wasmhost

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"

	"weir/hostabi"
	. "weir/hostabi/wasmhost/wasm"
	. "weir/hostabi/wasmhost/wasmtest"
)

// writer writes random code that ends: loops have few turns, functions call those
// with lower numbers only.
type writer struct {
	*rand.Rand
	fn    int // the function that is written
	loops int // around what is written
}

const (
	randomFuncs, randomGlobals = 4, 3
	randomLocals               = 2 // that code uses as it likes; those behind them count turns
)

func (w *writer) one(of ...byte) byte { return of[w.IntN(len(of))] }

// code is n statements.
func (w *writer) code(depth, n int) (b []byte) {
	for range n {
		b = append(b, w.statement(depth)...)
	}
	return b
}

func (w *writer) statement(depth int) []byte {
	body := func() []byte { return w.code(depth-1, 1+w.IntN(3)) }
	kind := w.IntN(12)
	if depth == 0 {
		kind %= 5
	}
	switch kind {
	case 0:
		return Join(w.value(2), []byte{0x21, byte(w.IntN(randomLocals))})
	case 1:
		return Join(w.value(2), []byte{OpGlobalSet, byte(w.IntN(randomGlobals))})
	case 2:
		return Join(w.address(), w.value(2), []byte{w.one(0x36, 0x3A, 0x3B), 0, byte(w.IntN(100))})
	case 3:
		return Join(w.value(3), []byte{0x1A})
	case 4: // long and straight
		return Join(w.value(1), bytes.Repeat([]byte{0x45, 0x01}, w.IntN(600)), []byte{0x1A})
	case 5:
		return Join([]byte{OpBlock, BlockEmpty}, body(), w.value(1), []byte{OpBrIf, 0}, body(), []byte{OpEnd})
	case 6:
		return Join(w.value(1), []byte{OpIf, BlockEmpty}, body(), []byte{OpElse}, body(), []byte{OpEnd})
	case 7:
		return Join([]byte{OpBlock, BlockEmpty, OpBlock, BlockEmpty}, w.value(1), I32(3), []byte{0x71, OpBrTable, 2, 0, 1, 0, OpEnd}, body(), []byte{OpEnd})
	case 8:
		return Join(w.value(1), []byte{OpIf, BlockEmpty}, body(), w.value(1), []byte{0x0F, OpEnd})
	case 9:
		length := Join(w.value(1), I32(0x3FFF), []byte{0x71})
		if w.IntN(2) == 0 {
			return Join(w.address(), w.value(1), length, []byte{OpMisc, 11, 0})
		}
		return Join(w.address(), w.address(), length, []byte{OpMisc, 10, 0, 0})
	}
	if w.loops == 2 {
		return body()
	}
	turns := byte(2 + randomLocals + w.loops)
	w.loops++
	defer func() { w.loops-- }()
	return Join(I32(1+w.Int32N(5)), []byte{0x21, turns, OpLoop, BlockEmpty}, body(),
		[]byte{OpLocalGet, turns}, I32(1), []byte{OpI32Sub, OpLocalTee, turns, OpBrIf, 0, OpEnd})
}

// address is in memory, nearly always.
func (w *writer) address() []byte {
	if w.IntN(50) == 0 {
		return w.value(1)
	}
	return Join(w.value(1), I32(0xFFFF), []byte{0x71})
}

// value leaves an i32.
func (w *writer) value(depth int) []byte {
	sub := func() []byte { return w.value(depth - 1) }
	kind := w.IntN(16)
	if depth == 0 {
		kind %= 3
	}
	switch kind {
	case 0:
		return I32(int32(w.Uint32()) >> w.IntN(32))
	case 1:
		return []byte{OpLocalGet, byte(w.IntN(2 + randomLocals))}
	case 2:
		return []byte{OpGlobalGet, byte(w.IntN(randomGlobals))}
	case 3:
		return Join(w.address(), []byte{w.one(0x28, 0x2C, 0x2D, 0x2E, 0x2F), 0, byte(w.IntN(100))})
	case 4:
		return Join(sub(), sub(), sub(), []byte{0x1B})
	case 5:
		return Join([]byte{OpBlock, 0x7F}, sub(), sub(), []byte{OpBrIf, 0, 0x1A}, sub(), []byte{OpEnd})
	case 6:
		return Join(sub(), []byte{OpIf, 0x7F}, sub(), []byte{OpElse}, sub(), []byte{OpEnd})
	case 7:
		return Join(sub(), []byte{OpLocalTee, byte(w.IntN(randomLocals))})
	case 8:
		return Join(I32(w.Int32N(2)), []byte{OpMemoryGrow, 0, OpMemorySize, 0, 0x6A})
	case 9:
		return Join(sub(), []byte{w.one(0xAC, 0xAD)}, sub(), []byte{w.one(0xAC, 0xAD), byte(0x7C + w.IntN(15)), 0xA7})
	case 10: // seldom it is too large, and traps
		return Join(sub(), []byte{0xB7}, sub(), []byte{0xB7, w.one(0xA0, 0xA1, 0xA4, 0xA5), 0xAA})
	case 11, 12:
		if w.fn > 0 {
			return Join(sub(), sub(), []byte{OpCall, byte(w.IntN(w.fn))})
		}
	case 13:
		if w.fn > 0 { // function 0, or a trap
			return Join(sub(), sub(), I32(w.Int32N(21)/20), []byte{OpCallIndirect, 0, 0})
		}
	case 14:
		return Join(sub(), []byte{w.one(0x45, 0x67, 0x68, 0x69, 0xC0, 0xC1)})
	}
	op := byte(0x46 + w.IntN(0x78-0x46+1))
	if op >= 0x50 && op <= 0x69 { // for other types, or of one value
		op = 0x6A
	}
	if op >= 0x6D && op <= 0x70 && w.IntN(8) > 0 { // divisions seldom trap
		return Join(sub(), sub(), I32(1), []byte{0x72, op})
	}
	return Join(sub(), sub(), []byte{op})
}

// randomGuest is one whose hook leaves what random functions do.
func randomGuest(seed uint64) []byte {
	w := &writer{Rand: rand.New(rand.NewPCG(seed, 0))}
	g := NewGuest()
	g.Types = []Signature{Sig("ii", "i")}
	g.Memory = []byte{1, 2, 20} // an instance that grows by more is replaced
	g.Tables = [][]byte{{0x70, 0, 2}}
	g.Elems = [][]byte{Join([]byte{0}, I32(0), []byte{OpEnd, 1, 0})}
	for n := range randomGlobals {
		g.Globals = append(g.Globals, Join([]byte{0x7F, 1}, I32(w.Int32()), []byte{OpEnd}))
		g.Raw["g"+strconv.Itoa(n)] = Export{Kind: 3, Index: uint32(n)}
	}
	for w.fn = range randomFuncs {
		g.Helper(Sig("ii", "i"), Join(w.code(3, 1+w.IntN(6)), w.value(3))...)
		g.Helpers[w.fn].Locals = []byte{1, randomLocals + 2, 0x7F}
	}
	// Function 0 is named, so that it is there when it is called through the table: to
	// add it would need another instance, which has nothing of what was done before.
	named := Join([]byte{OpBlock, BlockEmpty, OpBr, 0}, I32(0), I32(0), []byte{OpCall, 0, 0x1A, OpEnd})
	run := Join(named, []byte{OpLocalGet, 0}, FirstByte, []byte{OpCall, randomFuncs - 1})
	return g.Hook(hostabi.Admit, Stored(run)).Build()
}

// Random code does the same when it is rewritten: it leaves the same value, memory
// and globals, or traps.
func FuzzRewrittenCodeMeansTheSame(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		wasm := randomGuest(seed)
		engines(t, func(t *testing.T, engine string) {
			ctx := t.Context()
			r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithMemoryLimitPages(hostabi.MaxMemoryPages))
			defer r.Close(ctx)
			original, err := r.Instantiate(ctx, wasm)
			if err != nil {
				t.Fatal(err)
			}
			m := load(t, engine, wasm, func(o *Options) { o.CallTimeout, o.Rehearse = 5*time.Second, nil })
			for _, in := range []string{"a", "\x00 b", "\xFF c d", ""} {
				original.Memory().WriteString(Region, in)
				_, err := original.ExportedFunction(hostabi.Admit.Export()).Call(ctx, uint64(len(in)))
				out, _, fault := m.Call(hostabi.Admit, []byte(in), nil)
				if (err == nil) != (fault == nil) {
					t.Fatalf("%q: %v; as it was: %v", in, fault, err)
				}
				if err != nil {
					return
				}
				if want, _ := original.Memory().Read(Region, 4); !bytes.Equal(out, want) {
					t.Fatalf("%q: %x; as it was: %x", in, out, want)
				}
				i := <-m.slots
				got, _ := i.memory.Read(0, i.memory.Size())
				if want, _ := original.Memory().Read(0, original.Memory().Size()); !bytes.Equal(got, want) {
					t.Errorf("%q: another memory", in)
				}
				for n := range randomGlobals {
					name := "g" + strconv.Itoa(n)
					if got, want := i.module.ExportedGlobal(name).Get(), original.ExportedGlobal(name).Get(); got != want {
						t.Errorf("%q: %s is %x; as it was: %x", in, name, got, want)
					}
				}
				m.slots <- i
			}
		})
	})
}
