package wasmhost

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/hostabi"
	"weir/hostabi/wasmhost/rewrite"
	. "weir/hostabi/wasmhost/wasm"
	. "weir/hostabi/wasmhost/wasmtest"
)

func TestAGoodModuleServes(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		m := load(t, engine, NewGuest().Build(), func(o *Options) { o.Configure = []byte("shape"); o.Instances = 3 })
		if got := string(m.Shape()); got != "shape" {
			t.Errorf("Shape is %q", got)
		}
		for h := range hostabi.Hook(hostabi.NumHooks) {
			if got := ask(m, h, "hello"); got != "hello" || !m.Has(h) {
				t.Errorf("%s answers %q", h, got)
			}
		}
		i := m.Info()
		if i.Instances != 3 || i.Calls != hostabi.NumHooks || i.Faults != 0 || i.Breaker != "closed" ||
			i.MemoryBytes != 3*2<<16 || i.Engine != strings.TrimPrefix(engine, lean) || i.ABI != "1.0" || len(i.Hash) != 64 {
			t.Errorf("Info is %+v", i)
		}
	})
}

func TestOutputReusesTheBuffer(t *testing.T) {
	m := load(t, Compiler, NewGuest().Build())
	buf := make([]byte, 0, hostabi.MaxOutput)
	out, _, err := m.Call(hostabi.Classify, []byte("one"), buf)
	if err != nil || string(out) != "one" || &out[0] != &buf[:1][0] {
		t.Errorf("%q, %v, in another array", out, err)
	}
}

func TestAnAbsentHookHasNoOpinion(t *testing.T) {
	m := load(t, Interpreter, NewGuest().Only(hostabi.Admit).Build())
	if m.Shape() != nil || m.Has(hostabi.Classify) || !m.Has(hostabi.Admit) {
		t.Error("hooks are not those exported")
	}
	if got := ask(m, hostabi.Classify, "k"); got != "status 1" {
		t.Errorf("classify answers %q", got)
	}
	if n := m.Info().Calls; n != 0 {
		t.Errorf("%d calls", n)
	}
}

func TestStatuses(t *testing.T) {
	for status, reserved := range map[hostabi.Status]bool{
		0: false, 1: false, 2: false, 3: false, 4: true, 255: true, 256: false, 65535: false,
	} {
		want := hostabi.MakeResult(0, status, 7)
		m := load(t, Interpreter, NewGuest().Hook(hostabi.Admit, I64(int64(want))).Build())
		_, got, err := m.Call(hostabi.Admit, nil, nil)
		f, failed := errors.AsType[*Fault](err)
		switch {
		case failed != reserved, failed && f.Kind != Output, !failed && got != want:
			t.Errorf("status %d: result %#x, %v", status, got, err)
		}
	}
}

// misbehaviour is code that ends a call, and the fault that this is.
type misbehaviour struct {
	bad  func(*Guest) []byte
	want Kind // "": one or the other
}

// misbehaviours are the ways in which a guest can fail in a call.
func misbehaviours() map[string]misbehaviour {
	recursive := func(g *Guest) []byte { // a function that calls itself
		call := g.Helper(Signature{})
		g.Helpers[0].Body = call
		return call
	}
	exponential := func(g *Guest) []byte { // 2^40 calls and no loop
		call := g.Helper(Signature{})
		for range 40 {
			call = g.Helper(Signature{}, Join(call, call)...)
		}
		return call
	}
	result := func(r hostabi.Result) func(*Guest) []byte {
		return func(*Guest) []byte { return append(I64(int64(r)), 0x0F) }
	}
	constant := func(b []byte) func(*Guest) []byte { return func(*Guest) []byte { return b } }
	bulk := func(g *Guest) []byte { // 1,000 times 16 MB
		call := Join(I32(0), I32(0), I32(250<<16), []byte{OpMisc, 11, 0})
		for range 3 {
			call = g.Helper(Signature{}, bytes.Repeat(call, 10)...)
		}
		return Join(I32(250), []byte{OpMemoryGrow, 0, 0x1A}, call)
	}
	return map[string]misbehaviour{
		"unreachable":          {constant(Unreachable), Trap},
		"division by zero":     {constant(Join(I32(1), I32(0), []byte{0x6D, 0x1A})), Trap},
		"read outside memory":  {constant(Join(I32(-1), []byte{0x28, 2, 0, 0x1A})), Trap},
		"loop":                 {constant(Forever), Timeout},
		"recursion":            {recursive, ""}, // of the stack, or late: the compiler's stack is large
		"calls without a loop": {exponential, Timeout},
		"bulk without a loop":  {bulk, Timeout},
		"output too long":      {result(hostabi.MakeResult(hostabi.MaxOutput+1, 0, 0)), Output},
		"output beyond memory": {result(hostabi.MakeResult(1<<32-1, 0, 0)), Output},
		"reserved status":      {result(hostabi.MakeResult(0, 17, 0)), Output},
		"exit": {func(g *Guest) []byte {
			return Join(I32(3), g.Importing(WASI, "proc_exit", Sig("i", "")))
		}, Trap},
		"log without end": {func(g *Guest) []byte {
			log := g.Importing(hostabi.ImportModule, hostabi.ImportLog, Sig("iii", ""))
			return Join([]byte{OpLoop, BlockEmpty}, I32(1), I32(0), I32(9), log, []byte{0x0C, 0, OpEnd})
		}, Timeout},
		"random without end": {func(g *Guest) []byte {
			random := g.Importing(WASI, "random_get", Sig("ii", "i"))
			return Join([]byte{OpLoop, BlockEmpty}, I32(0), I32(1<<17), random, []byte{0x1A, 0x0C, 0, OpEnd})
		}, Timeout},
	}
}

// Every way a guest can fail in a call: the fault it is, and that the next call
// is served by a new instance.
func TestFaultsAreContained(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		for name, c := range misbehaviours() {
			t.Run(name, func(t *testing.T) {
				g := NewGuest()
				m := load(t, engine, g.Hook(hostabi.Classify, When(c.bad(g))).Build())
				if got, want := ask(m, hostabi.Classify, "x"), "fault: "+string(c.want); !strings.HasPrefix(got, want) || got == "x" {
					t.Errorf("got %q, want %q", got, want)
				}
				healed(t, m, hostabi.Classify)
				if i := m.Info(); i.Faults == 0 {
					t.Error("the fault is not counted")
				}
			})
		}
	})
}

func TestATrapInAnyHookIsAFault(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		for h := hostabi.Classify; h < hostabi.NumHooks; h++ {
			m := load(t, engine, NewGuest().Hook(h, Unreachable).Build())
			_, _, err := m.Call(h, nil, nil)
			f, ok := errors.AsType[*Fault](err)
			if !ok || f.Hook != h || f.Kind != Trap || f.Policy != "p" || !strings.Contains(f.Error(), "unreachable") {
				t.Errorf("%s: %v", h, err)
			}
		}
	})
}

// Whatever a guest does, its fault is told in a line that ends with a remedy.
func TestFaultsHaveALine(t *testing.T) {
	for name, c := range misbehaviours() {
		g := NewGuest()
		g.Hook(hostabi.Classify, When(c.bad(g)))
		_, _, err := load(t, Interpreter, g.Build()).Call(hostabi.Classify, []byte("x"), nil)
		f, ok := errors.AsType[*Fault](err)
		if !ok {
			t.Fatal(name, err)
		}
		if line := f.Line(); strings.ContainsAny(line, "\n") || !strings.HasPrefix(line, string(f.Kind)+": ") || !strings.Contains(line, "; ") || strings.Contains(line, "wazero") {
			t.Errorf("%s: %q", name, line)
		}
	}
}

func TestGrowthIsBounded(t *testing.T) {
	grow := func(more []byte) []byte { // while (grow(1) != -1) {}
		return Join([]byte{OpLoop, BlockEmpty}, more, I32(-1), []byte{0x47, 0x0D, 0, OpEnd})
	}
	engines(t, func(t *testing.T, engine string) {
		memory := Stored(Join(grow(Join(I32(1), []byte{OpMemoryGrow, 0})), []byte{OpMemorySize, 0}))
		table := Stored(Join(grow(Join([]byte{OpRefNull, 0x70}, I32(1), []byte{OpMisc, 15, 0})), []byte{OpMisc, 16, 0}))
		g := NewGuest().Hook(hostabi.Classify, memory).Hook(hostabi.Admit, table)
		g.Tables = [][]byte{{0x70, 0, 1}}
		m := load(t, engine, g.Build(), func(o *Options) { o.CallTimeout = 10 * time.Second })
		for h, want := range map[hostabi.Hook]uint32{hostabi.Classify: hostabi.MaxMemoryPages, hostabi.Admit: hostabi.MaxTableEntries} {
			if got := ask(m, h, ""); len(got) != 4 || binary.LittleEndian.Uint32([]byte(got)) != want {
				t.Errorf("%s: grew to %x, want %x", h, got, want)
			}
		}
		if n := m.Info().MemoryBytes; n != hostabi.MaxMemoryPages<<16 {
			t.Errorf("%d bytes of memory are counted", n)
		}
	})
}

func TestTooMuchInputIsNotPassedOn(t *testing.T) {
	m := load(t, Interpreter, NewGuest().Build())
	if got := ask(m, hostabi.Admit, strings.Repeat("a", hostabi.MaxInput+1)); got != "fault: input" {
		t.Errorf("got %.20q", got)
	}
}

func TestRepeatedFaultsOpenTheBreaker(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		m := load(t, engine, NewGuest().Hook(hostabi.Classify, When(Unreachable)).Build(), func(o *Options) { o.Instances = breakerFaults })
		for range breakerFaults {
			if got := ask(m, hostabi.Classify, "x"); got != "fault: trap" {
				t.Fatalf("got %q", got)
			}
		}
		if got := ask(m, hostabi.Classify, "good"); got != "fault: unavailable" || m.Info().Breaker != "open" {
			t.Errorf("got %q with the breaker %s", got, m.Info().Breaker)
		}
		healed(t, m, hostabi.Classify) // after a second
		if b := m.Info().Breaker; b != "closed" {
			t.Errorf("the breaker is %s after a good trial", b)
		}
	})
}

// A hook that fails is not asked any more, however well others do: each call that it
// fails takes them an instance.
func TestEachHookHasItsOwnBreaker(t *testing.T) {
	wasm := NewGuest().Hook(hostabi.FramingHook, Unreachable).Build()
	synctest.Test(t, func(t *testing.T) {
		traps := 0
		m, err := Load(t.Context(), Options{Name: "p", Wasm: wasm, Engine: Interpreter, Instances: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		for range 10 * breakerFaults {
			if got := ask(m, hostabi.Admit, "good"); got != "good" {
				t.Fatalf("the hook that does well: %q", got)
			}
			if ask(m, hostabi.FramingHook, "x") == "fault: trap" {
				traps++
			}
			synctest.Wait() // for another instance
		}
		if b := m.Info().Breaker; traps != breakerFaults || b != "open" {
			t.Errorf("%d calls failed, and the breaker is %s", traps, b)
		}
		time.Sleep(breakerFirst)
		if b := m.Info().Breaker; b != "half-open" {
			t.Errorf("the breaker is %s after %v", b, breakerFirst)
		}
		if got := ask(m, hostabi.Admit, "good"); got != "good" || m.Info().Breaker != "half-open" {
			t.Errorf("another hook decides the trial: %q, the breaker is %s", got, m.Info().Breaker)
		}
	})
}

// What is in an answer is its readers' business: a guest may refuse, or write what
// is no message, as often as it likes.
func TestAnswersOpenNoBreaker(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		for name, result := range map[string]hostabi.Result{
			"garbage": hostabi.MakeResult(1, hostabi.StatusOK, 0), "bad input": hostabi.MakeResult(0, hostabi.StatusBadInput, 0),
			"unsupported": hostabi.MakeResult(0, hostabi.StatusUnsupported, 0), "its own": hostabi.MakeResult(0, hostabi.StatusGuest, 0),
		} {
			m := load(t, engine, NewGuest().Hook(hostabi.Classify, I64(int64(result))).Build())
			for range 3 * breakerFaults {
				if _, r, err := m.Call(hostabi.Classify, []byte("x"), nil); err != nil || r != result {
					t.Fatalf("%s: %v, %v", name, r, err)
				}
			}
			if i := m.Info(); i.Breaker != "closed" || i.Faults != 0 {
				t.Errorf("%s: the breaker is %s after %d faults", name, i.Breaker, i.Faults)
			}
		}
	})
}

func TestInstancesMustAgree(t *testing.T) {
	m := &Module{}
	if err := m.agree(0, []byte("a")); err != nil {
		t.Error(err)
	}
	if err := m.agree(1, []byte("a")); err != nil {
		t.Error(err)
	}
	if err, ok := m.agree(2, []byte("b")).(*LoadError); !ok || err.Stage != Configure {
		t.Errorf("a different shape: %v", err)
	}
}

// Two guests cannot tell themselves apart by time or chance.
func TestTheWorldIsTheSameForEveryInstance(t *testing.T) {
	g := NewGuest()
	random := g.Importing(WASI, "random_get", Sig("ii", "i"))
	clock := g.Importing(WASI, "clock_time_get", Sig("iIi", "i"))
	g.Hook(hostabi.Configure, Join(
		I32(Region), I32(64), random, []byte{0x1A},
		I32(0), I64(1), I32(Region+64), clock, []byte{0x1A}, I64(72)))
	m := load(t, Interpreter, g.Build(), func(o *Options) { o.Instances = 4 })
	if s := m.Shape(); len(s) != 72 || bytes.Equal(s[:32], s[32:64]) {
		t.Errorf("shape %x", s)
	}
}

func TestUnchangedBytesAreCompiledOnce(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		wasm := NewGuest().Build()
		a, b := load(t, engine, wasm), load(t, engine, bytes.Clone(wasm))
		if a.code != b.code {
			t.Error("compiled twice")
		}
		a.Close()
		if got := ask(b, hostabi.Classify, "still"); got != "still" {
			t.Errorf("after the other closed: %q", got)
		}
	})
}

// A module is not said to take long where it was only not waited for.
func TestALoadThatIsGivenUpBlamesNoModule(t *testing.T) {
	bareEngines(t, func(t *testing.T, engine string) {
		ctx, giveUp := context.WithCancel(t.Context())
		giveUp()
		_, err := new(code).compile(ctx, engine, NewGuest().Build(), rewrite.Form{}, nil)
		if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "takes longer") {
			t.Errorf("got %v", err)
		}
	})
}

func TestClosedModulesAnswerAtOnce(t *testing.T) {
	m := load(t, Interpreter, NewGuest().Build())
	m.Close()
	m.Close()
	if got := ask(m, hostabi.Classify, ""); got != "fault: unavailable" {
		t.Errorf("got %q", got)
	}
}

// Calls, faults, replacements and Close at once; run with -race.
func TestCloseCollectsEverything(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		wasm := NewGuest().Hook(hostabi.Classify, When(Unreachable)).Build()
		for range 20 {
			m := load(t, engine, wasm, func(o *Options) { o.Instances = 3; o.Log = nil })
			var callers sync.WaitGroup
			var once sync.Once
			for c := range 6 {
				callers.Go(func() {
					for i := range 200 {
						in := fmt.Sprint("good", i)
						if i%50 == c {
							in = "x"
						}
						got := ask(m, hostabi.Classify, in)
						if got != in && !strings.HasPrefix(got, "fault: ") {
							t.Errorf("%q answered %q", in, got)
						}
						if i == 150 {
							once.Do(m.Close)
						}
					}
				})
			}
			callers.Wait()
			m.Close()
			if i := m.Info(); i.Instances != 0 || i.MemoryBytes != 0 {
				t.Fatalf("left over: %+v", i)
			}
		}
	})
}

func TestCallsDoNotAllocate(t *testing.T) {
	m := load(t, Compiler, NewGuest().Build())
	in, out := []byte("key"), make([]byte, 0, hostabi.MaxOutput)
	if n := testing.AllocsPerRun(100, func() { _, _, _ = m.Call(hostabi.Classify, in, out) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
