package wasmhost

import (
	"bytes"
	"context"
	"testing"

	"github.com/tetratelabs/wazero"

	"weir/hostabi"
	"weir/hostabi/wasmhost/rewrite"
	. "weir/hostabi/wasmhost/wasm"
	. "weir/hostabi/wasmhost/wasmtest"
)

// Code asks for time as often as ever when control goes round every place at which
// straight code would: its longest way counts, not where it stands.
func TestNoWayGoesRoundTheChecks(t *testing.T) {
	const (
		piece  = 512 // bytes
		pieces = 32
		times  = 64 // that all are run: 1 MiB, for 8 questions
		around = 32
	)
	nops := func(n int) []byte { return bytes.Repeat([]byte{1}, n) }
	for name, way := range map[string]func(run []byte) []byte{
		"br":       func(run []byte) []byte { return Join(run, []byte{OpBr, 0}, nops(around)) },
		"br_if":    func(run []byte) []byte { return Join(run, I32(1), []byte{OpBrIf, 0}, nops(around)) },
		"br_table": func(run []byte) []byte { return Join(run, I32(0), []byte{OpBrTable, 1, 0, 0}, nops(around)) },
		"if": func(run []byte) []byte {
			return Join(run, I32(0), []byte{OpIf, BlockEmpty}, nops(around), []byte{OpEnd})
		},
		"then": func(run []byte) []byte {
			return Join(I32(1), []byte{OpIf, BlockEmpty}, run, []byte{OpElse}, nops(around), []byte{OpEnd})
		},
		"else": func(run []byte) []byte {
			return Join(I32(0), []byte{OpIf, BlockEmpty}, nops(around), []byte{OpElse}, run, []byte{OpEnd})
		},
	} {
		t.Run(name, func(t *testing.T) {
			block := Join([]byte{OpBlock, BlockEmpty}, way(nops(piece-3-len(way(nil)))), []byte{OpEnd})
			for phase := 0; phase < piece; phase += around / 2 {
				g := NewGuest()
				long := g.Helper(Sig("", ""), Join(nops(phase), bytes.Repeat(block, pieces))...)
				g.Hook(hostabi.Admit, Join(bytes.Repeat(long, times), I64(0)))
				if n := questions(t, g.Build()); n < 6 {
					t.Fatalf("asks %d times for 1 MiB of code, begun at %d", n, phase)
				}
			}
		})
	}
}

// questions is how often the hook admit of a module asks for time.
func questions(t *testing.T, module []byte) (n int) {
	t.Helper()
	ctx := t.Context()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer r.Close(ctx)
	host := r.NewHostModuleBuilder(rewrite.HostModule).NewFunctionBuilder().
		WithFunc(func(context.Context) { n++ }).Export(rewrite.Checkpoint)
	if _, err := host.Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	d, err := rewrite.Prepare(module, importable)
	if err != nil {
		t.Fatal(err)
	}
	rewritten, err := d.Write(rewrite.Form{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Instantiate(ctx, rewritten)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.ExportedFunction(hostabi.Admit.Export()).Call(ctx, 0); err != nil {
		t.Fatal(err)
	}
	return n
}
