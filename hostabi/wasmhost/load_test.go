package wasmhost

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"weir/hostabi"
)

// refused is a module that does not load.
type refused struct {
	wasm  []byte
	stage Stage
	names []string // the words that help
}

// refusedModules are modules that must not load, whatever the engine.
func refusedModules() map[string]refused {
	with := func(change func(*guest)) []byte {
		g := newGuest()
		change(g)
		return g.build()
	}
	without := func(name string) []byte { return with(func(g *guest) { delete(g.exports, name) }) }
	return map[string]refused{
		"empty":         {nil, Validate, []string{"not a WebAssembly module"}},
		"a component":   {[]byte("\x00asm\x0d\x00\x01\x00"), Validate, []string{"component", "core module"}},
		"cut off":       {newGuest().build()[:50], Validate, []string{"malformed"}},
		"too large":     {make([]byte, hostabi.MaxModuleBytes+1), Validate, []string{"8388609", "8388608"}},
		"a new section": {with(func(g *guest) { g.custom = []byte{13, 1, 0} }), Validate, []string{"section 13", "exceptions"}},
		"two memories":  {with(func(g *guest) { g.custom = []byte{secMemory, 3, 1, 0, 1} }), Validate, []string{"out of order"}},
		"a command":     {with(func(g *guest) { g.export("_start", signature{}) }), Validate, []string{"_start", "-buildmode=c-shared"}},

		"no memory":              {with(func(g *guest) { g.memory = nil; delete(g.raw, "memory") }), Validate, []string{`"memory"`}},
		"memory not exported":    {with(func(g *guest) { delete(g.raw, "memory") }), Validate, []string{`"memory"`}},
		"memory too large":       {with(func(g *guest) { g.memory = []byte{0, 0x81, 2} }), Validate, []string{"257", "256"}},
		"shared memory":          {with(func(g *guest) { g.memory = []byte{3, 1, 2} }), Validate, []string{"shared"}},
		"table too large":        {with(func(g *guest) { g.tables = [][]byte{{0x70, 0, 0x91, 0x4E}} }), Validate, []string{"10001", "10000"}},
		"too many tables":        {with(func(g *guest) { g.tables = make([][]byte, 17); fill(g.tables, []byte{0x70, 0, 1}) }), Validate, []string{"16"}},
		"imported file":          {with(func(g *guest) { g.importing(wasiModule, "path_open", sig("i", "i")) }), Validate, []string{wasiModule + ".path_open", "file system"}},
		"imported abort":         {with(func(g *guest) { g.importing("env", "abort", sig("iiii", "")) }), Validate, []string{"env.abort", "--use abort="}},
		"imported checkpoint":    {with(func(g *guest) { g.importing(hostModule, checkpoint, signature{}) }), Validate, []string{hostModule}},
		"wrongly typed log":      {with(func(g *guest) { g.importing("weir_v1", "log", sig("ii", "")) }), Validate, []string{"weir_v1.log", "(i32, i32, i32) -> ()"}},
		"no weir_abi":            {without("weir_abi"), Validate, []string{"weir_abi", "() -> (i32)"}},
		"no weir_buffer":         {without("weir_buffer"), Validate, []string{"weir_buffer", "(i32, i32) -> (i32)"}},
		"wrong weir_abi":         {with(func(g *guest) { g.export("weir_abi", sig("", "I"), i64(1)...) }), Validate, []string{"weir_abi", "() -> (i64)", "() -> (i32)"}},
		"wrong weir_buffer":      {with(func(g *guest) { g.export("weir_buffer", sig("i", "i"), i32(1)...) }), Validate, []string{"weir_buffer", "(i32, i32) -> (i32)"}},
		"wrong hook":             {with(func(g *guest) { g.export("weir_admit", sig("i", "i"), i32(1)...) }), Validate, []string{"weir_admit", "(i32) -> (i64)"}},
		"wrong _initialize":      {with(func(g *guest) { g.export("_initialize", sig("", "i"), i32(1)...) }), Validate, []string{"_initialize", "() -> ()"}},
		"a memory for a hook":    {with(func(g *guest) { delete(g.exports, "weir_admit"); g.raw["weir_admit"] = export{2, 0} }), Validate, []string{"weir_admit", "memory", "(i32) -> (i64)"}},
		"a hook that is nowhere": {with(func(g *guest) { delete(g.exports, "weir_admit"); g.raw["weir_admit"] = export{0, 99} }), Validate, []string{"weir_admit"}},
		"the host's global":      {with(func(g *guest) { g.hook(hostabi.Admit, join(i32(9), []byte{opGlobalSet, 0}, echo)) }), Validate, []string{"global 0"}},
		"the host's global out":  {with(func(g *guest) { g.raw["g"] = export{3, 0} }), Validate, []string{"global 0"}},
		"a tail call":            {with(func(g *guest) { g.hook(hostabi.Admit, []byte{0x12, 0}) }), Validate, []string{"0x12", "tail calls"}},
		"too many locals":        {with(func(g *guest) { g.exports["weir_admit"].locals = []byte{1, 0x81, 0x20, 0x7F} }), Validate, []string{"4096"}},
		"a typed reference":      {with(func(g *guest) { g.exports["weir_admit"].locals = []byte{1, 1, 0x63, 0} }), Validate, []string{"0x63"}},
		"not valid":              {with(func(g *guest) { g.hook(hostabi.Admit, []byte{0x6A}) }), Compile, []string{"not valid"}},

		"the future":           {with(func(g *guest) { g.export("weir_abi", sig("", "i"), i32(2<<16)...) }), Instantiate, []string{"2.0", "1.0"}},
		"no region":            {with(func(g *guest) { g.export("weir_buffer", sig("ii", "i"), i32(0)...) }), Instantiate, []string{"weir_buffer"}},
		"region at the end":    {with(func(g *guest) { g.export("weir_buffer", sig("ii", "i"), i32(2<<16-hostabi.MaxInput+1)...) }), Instantiate, []string{"131073", "131072"}},
		"region beyond":        {with(func(g *guest) { g.export("weir_buffer", sig("ii", "i"), i32(-1)...) }), Instantiate, []string{"4294967295"}},
		"trap in start":        {with(func(g *guest) { g.start = trap }), Instantiate, []string{"unreachable"}},
		"trap in _initialize":  {with(func(g *guest) { g.export("_initialize", signature{}, trap...) }), Instantiate, []string{"_initialize", "unreachable"}},
		"trap in weir_abi":     {with(func(g *guest) { g.export("weir_abi", sig("", "i"), trap...) }), Instantiate, []string{"weir_abi", "unreachable"}},
		"trap in weir_buffer":  {with(func(g *guest) { g.export("weir_buffer", sig("ii", "i"), trap...) }), Instantiate, []string{"weir_buffer", "unreachable"}},
		"endless start":        {with(func(g *guest) { g.start = forever }), Instantiate, []string{"500ms"}},
		"endless _initialize":  {with(func(g *guest) { g.export("_initialize", signature{}, forever...) }), Instantiate, []string{"_initialize", "500ms"}},
		"endless configure":    {with(func(g *guest) { g.hook(hostabi.Configure, forever) }), Configure, []string{"weir_configure", "500ms"}},
		"trap in configure":    {with(func(g *guest) { g.hook(hostabi.Configure, trap) }), Configure, []string{"weir_configure", "unreachable"}},
		"configure too long":   {with(func(g *guest) { g.hook(hostabi.Configure, i64(8193)) }), Configure, []string{"8193", "8192"}},
		"refused without word": {with(func(g *guest) { g.hook(hostabi.Configure, i64(2<<32)) }), Configure, []string{"status 2"}},
		"refused with a word":  {with(func(g *guest) { g.hook(hostabi.Configure, join([]byte{opLocalGet, 0, 0xAD}, i64(2<<32), []byte{0x84})) }), Configure, []string{"droppable: no"}},
	}
}

// refusal is the configuration that the modules are refused with, for those
// that refuse it.
var refusal = (&hostabi.Refusal{Message: "droppable: no"}).AppendTo(nil)

// Each module is refused at the stage, by an error that names what is wrong.
func TestRefusedModules(t *testing.T) {
	for name, c := range refusedModules() {
		t.Run(name, func(t *testing.T) {
			engines(t, func(t *testing.T, engine string) {
				m, err := Load(t.Context(), on(engine, Options{Name: "p", Wasm: c.wasm, Configure: refusal}))
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
		var deep []byte // loops within each other
		for range 300 {
			deep = append(deep, opLoop, blockEmpty)
		}
		for range 300 {
			deep = append(deep, opEnd)
		}
		g := newGuest().hook(hostabi.Classify, join(deep, echo))
		g.exports["weir_classify"].locals = []byte{1, 50, 0x7F}
		wasm := g.build()
		if _, err := Load(t.Context(), Options{Wasm: wasm, Engine: Compiler}); err == nil || !strings.Contains(err.Error(), Interpreter) {
			t.Errorf("the compiler: %v", err)
		}
		load(t, Interpreter, wasm)
	})
}

func fill(all [][]byte, with []byte) {
	for i := range all {
		all[i] = with
	}
}

func TestAHigherMinorIsServed(t *testing.T) {
	g := newGuest().export("weir_abi", sig("", "i"), i32(1<<16|7)...).export("weir_dream", sig("i", "I"), echo...)
	said := ""
	m := load(t, Interpreter, g.build(), func(o *Options) { o.Log = func(_, msg string) { said = msg } })
	if got := ask(m, hostabi.Classify, "k"); got != "k" || m.Info().ABI != "1.7" {
		t.Errorf("answers %q, ABI %s", got, m.Info().ABI)
	}
	if !strings.Contains(said, "weir_dream") {
		t.Errorf("the unknown hook is not named: %q", said)
	}
}

func TestAnUnknownEngineIsRefused(t *testing.T) {
	if _, err := Load(t.Context(), Options{Wasm: newGuest().build(), Engine: "steam"}); err == nil || !strings.Contains(err.Error(), "steam") {
		t.Error(err)
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Load(ctx, Options{Wasm: newGuest().build()}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestInitialisingIsBounded(t *testing.T) {
	_, err := Load(t.Context(), Options{Wasm: newGuest().export("_initialize", signature{}, forever...).build(), InitTimeout: 20 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "_initialize: the guest ran for ") || !strings.Contains(err.Error(), "have 20ms of execution together") {
		t.Error(err)
	}
}
