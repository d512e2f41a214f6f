package wasmhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/hostabi"
	"weir/hostabi/wasmhost/rewrite"
	. "weir/hostabi/wasmhost/wasm"
	. "weir/hostabi/wasmhost/wasmtest"
)

// refused is a module that does not load.
type refused struct {
	wasm  []byte
	stage Stage
	names []string // the words that help
}

// refusedModules are modules that must not load, whatever the engine.
func refusedModules() map[string]refused {
	all := map[string]refused{
		"too large":           {make([]byte, hostabi.MaxModuleBytes+1), Validate, []string{"8388609", "8388608"}},
		"imported checkpoint": {With(func(g *Guest) { g.Importing(rewrite.HostModule, rewrite.Checkpoint, Signature{}) }), Validate, []string{rewrite.HostModule}},
		"not valid":           {With(func(g *Guest) { g.Hook(hostabi.Admit, []byte{0x6A}) }), Compile, []string{"not valid"}},

		"the future":           {With(func(g *Guest) { g.Export("weir_abi", Sig("", "i"), I32(2<<16)...) }), Instantiate, []string{"2.0", "1.0"}},
		"no region":            {With(func(g *Guest) { g.Export("weir_buffer", Sig("ii", "i"), I32(0)...) }), Instantiate, []string{"weir_buffer"}},
		"region at the end":    {With(func(g *Guest) { g.Export("weir_buffer", Sig("ii", "i"), I32(2<<16-hostabi.MaxInput+1)...) }), Instantiate, []string{"131073", "131072"}},
		"region beyond":        {With(func(g *Guest) { g.Export("weir_buffer", Sig("ii", "i"), I32(-1)...) }), Instantiate, []string{"4294967295"}},
		"trap in start":        {With(func(g *Guest) { g.Start = Unreachable }), Instantiate, []string{"unreachable"}},
		"trap in _initialize":  {With(func(g *Guest) { g.Export("_initialize", Signature{}, Unreachable...) }), Instantiate, []string{"_initialize", "unreachable"}},
		"trap in weir_abi":     {With(func(g *Guest) { g.Export("weir_abi", Sig("", "i"), Unreachable...) }), Instantiate, []string{"weir_abi", "unreachable"}},
		"trap in weir_buffer":  {With(func(g *Guest) { g.Export("weir_buffer", Sig("ii", "i"), Unreachable...) }), Instantiate, []string{"weir_buffer", "unreachable"}},
		"endless start":        {With(func(g *Guest) { g.Start = Forever }), Instantiate, []string{"50ms"}},
		"endless _initialize":  {With(func(g *Guest) { g.Export("_initialize", Signature{}, Forever...) }), Instantiate, []string{"_initialize", "50ms"}},
		"endless configure":    {With(func(g *Guest) { g.Hook(hostabi.Configure, Forever) }), Configure, []string{"weir_configure", "50ms"}},
		"trap in configure":    {With(func(g *Guest) { g.Hook(hostabi.Configure, Unreachable) }), Configure, []string{"weir_configure", "unreachable"}},
		"configure too long":   {With(func(g *Guest) { g.Hook(hostabi.Configure, I64(8193)) }), Configure, []string{"8193", "8192"}},
		"refused without word": {With(func(g *Guest) { g.Hook(hostabi.Configure, I64(2<<32)) }), Configure, []string{"status 2"}},
		"refused with a word":  {With(func(g *Guest) { g.Hook(hostabi.Configure, Join([]byte{OpLocalGet, 0, 0xAD}, I64(2<<32), []byte{0x84})) }), Configure, []string{"droppable: no"}},
	}
	all["the host's function"] = refused{With(func(g *Guest) {
		g.Importing(WASI, "random_get", Sig("ii", "i"))
		delete(g.Exports, "weir_buffer")
		g.Raw["weir_buffer"] = Export{Kind: 0, Index: 0}
	}), Validate, []string{"weir_buffer", "imported", "define it"}}
	for name, m := range InvalidModules() {
		all[name] = refused{m.Wasm, Validate, m.Names}
	}
	return all
}

// refusal is the configuration that the modules are refused with, for those
// that refuse it.
var refusal = (&hostabi.Refusal{Message: "droppable: no"}).AppendTo(nil)

// Each module is refused at the stage, by an error that names what is wrong.
func TestRefusedModules(t *testing.T) {
	for name, c := range refusedModules() {
		t.Run(name, func(t *testing.T) {
			engines(t, func(t *testing.T, engine string) {
				m, err := Load(t.Context(), on(engine, Options{Name: "p", Wasm: c.wasm, Configure: refusal, InitTimeout: 50 * time.Millisecond}))
				if err == nil {
					m.Close()
					t.Fatal("it loads")
				}
				refused, ok := errors.AsType[*LoadError](err)
				if !ok || refused.Stage != c.stage || refused.Policy != "p" {
					t.Errorf("the error is %#v", err)
				}
				for _, w := range c.names {
					if !strings.Contains(err.Error(), w) {
						t.Errorf("the error does not name %q: %v", w, err)
					}
				}
			})
		})
	}

	t.Run("only by the compiler", func(t *testing.T) {
		deep := Join(bytes.Repeat([]byte{OpLoop, BlockEmpty}, 300), bytes.Repeat([]byte{OpEnd}, 300))
		grows := Join(I32(0), bytes.Repeat([]byte{OpMemoryGrow, 0}, 5000), []byte{0x1A})
		loads := Join(I32(0), bytes.Repeat([]byte{0x28, 0, 0}, 50_000), []byte{0x1A})
		calls := bytes.Repeat([]byte{OpCall, 0}, 1000) // after each of which the compiler reads all globals anew
		wide := Join(bytes.Repeat(I32(0), 64), bytes.Repeat([]byte{OpCall, 1}, 3000), bytes.Repeat([]byte{0x1A}, 64))
		truncs := Join(I32(0), bytes.Repeat([]byte{0xB7, 0xAA}, 5000), []byte{0x1A})
		among := Join([]byte{OpBlock, BlockEmpty}, I32(0), bytes.Repeat(Join(bytes.Repeat([]byte{0x28, 0, 0}, 10), I32(1), []byte{OpBrIf, 0}), 2000), []byte{0x1A, OpEnd})
		left := Join([]byte{OpBlock, BlockEmpty}, bytes.Repeat([]byte{OpLocalGet, 0, 0x67, OpLocalGet, 0, 0x67, OpI32Const, 1, OpBrIf, 0}, 3000), bytes.Repeat([]byte{0x6A}, 5999), []byte{0x1A, OpEnd})
		hand := Join(bytes.Repeat(I32(0), 64), bytes.Repeat([]byte{OpLoop, 0}, 120), bytes.Repeat([]byte{OpLocalGet, 0, OpBrIf, 0, OpEnd}, 120), bytes.Repeat([]byte{0x1A}, 64))
		for name, body := range map[string][]byte{
			"loops that pass a lot":   hand,
			"loads among blocks":      among,
			"values left over blocks": left,
			"loops within each other": deep, "memory that grows and grows": grows, "nothing but loads": loads,
			"calls and globals": calls, "calls that pass a lot": wide, "conversions that may trap": truncs,
		} {
			g := NewGuest().Hook(hostabi.Classify, Join(body, Echo))
			g.Types = []Signature{{Params: strings.Repeat("\x7F", 64), Results: strings.Repeat("\x7F", 64)}}
			g.Helper(Signature{})
			if name == "calls and globals" {
				g.Globals = slices.Repeat([][]byte{{0x7F, 1, OpI32Const, 0, OpEnd}}, 300)
			} else {
				g.Helper(Signature{Params: strings.Repeat("\x7F", 64), Results: strings.Repeat("\x7F", 64)}, OpUnreachable)
			}
			g.Exports["weir_classify"].Locals = []byte{1, 50, 0x7F}
			wasm := g.Build()
			m, err := Load(t.Context(), Options{Wasm: wasm, Engine: Compiler})
			if err == nil {
				m.Close()
			}
			if err == nil || !strings.Contains(err.Error(), Interpreter) {
				t.Errorf("%s: the compiler: %v", name, err)
			}
			load(t, Interpreter, wasm)
		}

		// A few calls that pass a lot in each of very many functions.
		g := NewGuest()
		g.Helper(Signature{Params: strings.Repeat("\x7F", 64), Results: strings.Repeat("\x7F", 64)}, OpUnreachable)
		some := &Func{Body: Join(bytes.Repeat(I32(0), 64), bytes.Repeat([]byte{OpCall, 0}, 100), bytes.Repeat([]byte{0x1A}, 64))}
		g.Helpers = append(g.Helpers, slices.Repeat([]*Func{some}, 2000)...)
		m, err := Load(t.Context(), Options{Wasm: g.Build(), Engine: Compiler})
		if err == nil {
			m.Close()
		}
		if err == nil || !strings.Contains(err.Error(), Interpreter) {
			t.Errorf("calls that pass a lot, all together: the compiler: %v", err)
		}

		// Many functions near the bound of one, which take a file of 6 MB half a minute.
		for word, body := range map[string][]byte{
			"values": Join([]byte{OpBlock, BlockEmpty}, bytes.Repeat(I32(0), 400), bytes.Repeat([]byte{OpI32Const, 1, OpBrIf, 0}, 400), bytes.Repeat([]byte{0x1A}, 400), []byte{OpEnd}),
			"loops":  Join(bytes.Repeat(I32(0), 64), bytes.Repeat([]byte{OpLoop, 0}, 60), bytes.Repeat([]byte{OpI32Const, 1, OpBrIf, 0, OpEnd}, 60), bytes.Repeat([]byte{0x1A}, 64)),
			"blocks": Join([]byte{OpBlock, BlockEmpty}, bytes.Repeat([]byte{OpI32Const, 1, OpBrIf, 0}, 2400), []byte{OpEnd}),
			"KiB":    bytes.Repeat([]byte{0x01}, 127<<10),
		} {
			g := NewGuest()
			g.Raw["weir:"] = Export{Kind: 2, Index: 0} // not lean
			g.Types = []Signature{{Params: strings.Repeat("\x7F", 64), Results: strings.Repeat("\x7F", 64)}}
			g.Helpers = slices.Repeat([]*Func{{Body: body}}, 9)
			load(t, Compiler, With(func(small *Guest) { small.Types, small.Helpers = g.Types, g.Helpers[:2] }))
			if word != "KiB" {
				g.Helpers = slices.Repeat(g.Helpers, map[string]int{"blocks": 11, "values": 24, "loops": 10}[word])
			}
			m, err := Load(t.Context(), Options{Wasm: g.Build(), Engine: Compiler})
			if err == nil {
				m.Close()
			}
			if err == nil || !strings.Contains(err.Error(), Interpreter) || !strings.Contains(err.Error(), word) {
				t.Errorf("many functions with many %s: the compiler: %v", word, err)
			}
		}
	})
}

func TestAHigherMinorIsServed(t *testing.T) {
	g := NewGuest().Export("weir_abi", Sig("", "i"), I32(1<<16|7)...).Export("weir_dream", Sig("i", "I"), Echo...)
	said := ""
	m := load(t, Interpreter, g.Build(), func(o *Options) { o.Log = func(_, msg string) { said = msg } })
	if got := ask(m, hostabi.Classify, "k"); got != "k" || m.Info().ABI != "1.7" {
		t.Errorf("answers %q, ABI %s", got, m.Info().ABI)
	}
	if !strings.Contains(said, "weir_dream") {
		t.Errorf("the unknown hook is not named: %q", said)
	}
}

func TestAnUnknownEngineIsRefused(t *testing.T) {
	if _, err := Load(t.Context(), Options{Wasm: NewGuest().Build(), Engine: "steam"}); err == nil || !strings.Contains(err.Error(), "steam") {
		t.Error(err)
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Load(ctx, Options{Wasm: NewGuest().Build()}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestInitialisingIsBounded(t *testing.T) {
	_, err := Load(t.Context(), Options{Wasm: NewGuest().Export("_initialize", Signature{}, Forever...).Build(), InitTimeout: 20 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "_initialize: the guest ran for ") || !strings.Contains(err.Error(), "have 20ms of execution together") {
		t.Error(err)
	}
}

// overAfter is a context that is over when it is asked once more than left.
type overAfter struct {
	context.Context
	left int
}

func (o *overAfter) Err() error {
	if o.left--; o.left < 0 {
		return context.Canceled
	}
	return nil
}

// A load that fails leaves nothing, whatever the stage and however often: no
// instance, no memory, no compiled module, no file of an image.
func TestALoadThatFailsLeavesNothing(t *testing.T) {
	const loads = 25
	const between = "between two instances"
	all := refusedModules()
	all[between] = refused{wasm: NewGuest().Build()}
	stages := map[string]Stage{"cut off": Validate, "not valid": Compile, "trap in start": Instantiate, "trap in configure": Configure, between: ""}
	for name, stage := range stages {
		if all[name].stage != stage {
			t.Fatalf("%s fails at %q", name, all[name].stage)
		}
		engines(t, func(t *testing.T, engine string) {
			held, files, mapped := CompiledModules(), descriptors(), addresses()
			for range loads {
				m := newModule(on(engine, Options{Wasm: all[name].wasm, Instances: 2}))
				var ctx context.Context = t.Context()
				if name == between {
					ctx = &overAfter{ctx, 1}
				}
				if m.load(ctx) == nil {
					t.Fatalf("%s: it loads", name)
				}
				if live, memory, modules := m.live.Load(), m.memBytes.Load(), CompiledModules(); live != 0 || memory != 0 || modules != held {
					t.Fatalf("%s: %d instances, %d bytes of memory, %d compiled modules are left", name, live, memory, modules-held)
				}
			}
			if n := descriptors(); n > files {
				t.Errorf("%s: %d descriptors, %d before", name, n, files)
			}
			if n := addresses(); n > mapped+loads*hostabi.MaxMemoryPages<<16/2 {
				t.Errorf("%s: %d bytes of addresses, %d before", name, n, mapped)
			}
		})
	}
}

// descriptors is how many are open; 0 where nobody says.
func descriptors() int {
	files, _ := os.ReadDir("/proc/self/fd")
	return len(files)
}

// addresses is how many bytes are mapped; 0 where nobody says.
func addresses() (n int) {
	b, _ := os.ReadFile("/proc/self/statm")
	_, _ = fmt.Sscan(string(b), &n)
	return n * os.Getpagesize()
}
