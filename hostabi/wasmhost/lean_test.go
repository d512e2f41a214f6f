package wasmhost

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/hostabi"
	"weir/hostabi/wasmhost/rewrite"
	. "weir/hostabi/wasmhost/wasm"
	. "weir/hostabi/wasmhost/wasmtest"
)

// nop makes a function too large to stay in the code for its size.
var nop = slices.Repeat([]byte{0x01}, 32)

// stateful is a guest whose state is in a global, in memory, in what it drew by
// chance and in its clock, all set before weir_buffer; admit answers it.
func stateful() *Guest {
	g := NewGuest()
	random := g.Importing(WASI, "random_get", Sig("ii", "i"))
	clock := g.Importing(WASI, "clock_time_get", Sig("iIi", "i"))
	g.Globals = [][]byte{Join([]byte{0x7F, 1}, I32(1), []byte{OpEnd}), Join([]byte{0x7C, 1, OpF64Const, 0, 0, 0, 0, 0, 0, 0xF0, 0x3F, OpEnd})}
	g.Memory = []byte{0, 1}
	now := Join(I32(0), I64(1), I32(5<<16+8), clock, []byte{0x1A})
	g.Start = Join(I32(42), []byte{OpGlobalSet, 0})
	g.Export(hostabi.ExportInitialize, Signature{}, Join(
		I32(6), []byte{OpMemoryGrow, 0, 0x1A}, // 7 pages
		I32(5<<16), I32(8), random, []byte{0x1A}, now,
		[]byte{OpGlobalGet, 1, OpGlobalGet, 1, 0xA0, OpGlobalSet, 1})...) // 2.0
	word := func(at int32, from ...byte) []byte { return Join(I32(at), from, []byte{0x36, 2, 0}) }
	load := func(at int32) []byte { return Join(I32(at), []byte{0x28, 2, 0}) }
	return g.Hook(hostabi.Admit, Join(nop, now,
		word(Region, OpGlobalGet, 0), word(Region+4, OpMemorySize, 0), word(Region+8, load(5<<16)...),
		word(Region+12, load(5<<16+8)...), word(Region+16, OpGlobalGet, 1, 0xAA),
		I64(20)))
}

// What begins as an image is no different from what began at the beginning.
func TestAnImageIsTheWholeState(t *testing.T) {
	var answers []string
	engines(t, func(t *testing.T, engine string) {
		m := load(t, engine, stateful().Build(), func(o *Options) { o.Instances = 3 })
		for range 3 {
			answers = append(answers, ask(m, hostabi.Admit, ""))
			if k := m.code.core.Load(); (k.image != nil) != strings.HasPrefix(engine, lean) {
				t.Error("it is not run as it should be")
			}
		}
	})
	// The clock moves on in an instance, and each of three answers once.
	if len(answers[0]) != 20 || slices.ContainsFunc(answers, func(a string) bool { return a != answers[0] }) {
		t.Errorf("the answers differ: %x", answers)
	}
}

// A copy is an instance's own.
func TestInstancesOfAnImageShareNothing(t *testing.T) {
	g := NewGuest()
	count := Join(I32(8), I32(8), []byte{0x28, 2, 0}, I32(1), []byte{0x6A, 0x36, 2, 0}) // memory[8]++
	g.Hook(hostabi.Classify, Join(count, I32(Region), I32(8), []byte{0x28, 2, 0, 0x36, 2, 0}, I64(4)))
	m := load(t, lean+Interpreter, g.Build(), func(o *Options) { o.Instances = 3 })
	for want := range 3 {
		for range cap(m.slots) {
			if got := ask(m, hostabi.Classify, ""); got != string([]byte{byte(want + 1), 0, 0, 0}) {
				t.Fatalf("turn %d: %x", want, got)
			}
		}
	}
}

// Only what was rehearsed is compiled; the rest is when it is first called, by
// an instance that is asked again, and from then on in every instance.
func TestFunctionsThatAreMissingAreAdded(t *testing.T) {
	bareEngines(t, func(t *testing.T, engine string) {
		g := NewGuest()
		deep := g.Helper(Sig("", ""), nop...)
		other := g.Helper(Sig("", ""), Join(nop, deep)...)
		for h := hostabi.Classify; h < hostabi.NumHooks; h++ {
			g.Hook(h, Join(nop, other, Echo))
		}
		for range 200 { // so that one mark is not enough
			g.Helper(Sig("", ""), nop...)
		}
		rehearsed := ""
		m := load(t, lean+engine, g.Build(), func(o *Options) {
			o.Instances = 2
			o.Rehearse = func(r *Rehearsal) {
				out, _, err := r.Call(hostabi.Classify, []byte("first"), nil)
				rehearsed = fmt.Sprintf("%s %v %v %v", out, err, r.Has(hostabi.Admit), r.Shape() == nil)
			}
		})
		if rehearsed != "first <nil> true true" {
			t.Errorf("the rehearsal saw %q", rehearsed)
		}
		before := m.code.core.Load()
		if n := count(before.form.Resident); n < 3 || n > 5 { // classify, two helpers, perhaps configure and what is called at start
			t.Errorf("%d functions are there", n)
		}
		if got := ask(m, hostabi.Classify, "a"); got != "a" || m.code.core.Load() != before {
			t.Errorf("what was rehearsed: %q, in other code", got)
		}
		if got := ask(m, hostabi.Admit, "b"); got != "b" || m.code.core.Load() == before {
			t.Errorf("what was not: %q, in the same code", got)
		}
		until(t, m, "every instance has new code", func() bool {
			m.code.mu.Lock()
			defer m.code.mu.Unlock()
			return before.refs == 0
		})
		if i := m.Info(); i.Faults != 0 || i.Instances != 2 || i.Breaker != "closed" {
			t.Errorf("%+v", i)
		}
	})
}

// A guest that calls ever new functions is given all of them.
func TestAGuestThatMissesManyGetsAll(t *testing.T) {
	g := NewGuest()
	byInput := Echo // a function for each first byte of the input
	for b := range int32(2 * maxGrowth) {
		call := g.Helper(Sig("", ""), nop...)
		byInput = Join(FirstByte, I32('a'+b), []byte{0x46, OpIf, BlockEmpty}, call, []byte{OpEnd}, byInput)
	}
	unrehearsed := func(o *Options) { o.Rehearse = nil }
	m := load(t, lean+Interpreter, g.Hook(hostabi.Classify, byInput).Build(), unrehearsed)
	if got := ask(m, hostabi.Classify, "0"); got != "0" { // brings all by name
		t.Fatal(got)
	}
	if n := m.code.grown; n != 1 {
		t.Errorf("grown %d times", n)
	}
	table := NewGuest()
	table.Tables = [][]byte{{0x70, 0, 2 * maxGrowth}}
	elem := Join([]byte{0}, I32(0), []byte{OpEnd, 2 * maxGrowth})
	for b := range byte(2 * maxGrowth) {
		table.Helper(Sig("", ""), nop...)
		elem = append(elem, b)
	}
	table.Elems = [][]byte{elem}
	table.Types = []Signature{Sig("", "")}
	table.Hook(hostabi.Classify, Join(FirstByte, I32('!'), []byte{OpI32Sub, OpCallIndirect, 0, 0}, Echo))
	m = load(t, lean+Interpreter, table.Build(), unrehearsed)
	for b := range 2 * maxGrowth {
		in := string(rune('!' + b))
		if got := ask(m, hostabi.Classify, in); got != in {
			t.Fatalf("%s: %q", in, got)
		}
	}
	if k := m.code.core.Load(); m.code.grown != maxGrowth+1 || k.form.Resident != nil {
		t.Errorf("grown %d times, lean: %v", m.code.grown, k.form.Resident != nil)
	}
	if got := ask(m, hostabi.Classify, "~"); got != "fault: trap" { // outside the table
		t.Errorf("a trap is %q", got)
	}
	healed(t, m, hostabi.Admit)
}

// A call that misses one function after the other waits no longer than for one.
func TestAGuestThatMissesManyIsNotWaitedForLong(t *testing.T) {
	g := NewGuest()
	for h := hostabi.Classify; h < hostabi.NumHooks; h++ {
		g.Hook(h, Join(nop, Echo))
	}
	m := load(t, lean+Interpreter, g.Build(), func(o *Options) {
		o.Rehearse = func(r *Rehearsal) { _, _, _ = r.Call(hostabi.Classify, nil, nil) }
	})
	m.code.making.Lock() // nothing is compiled
	began := time.Now()
	_, _, f := m.call(hostabi.Admit, nil, nil, nil, m.now()-growthWait) // all its time is gone
	m.code.making.Unlock()
	if f == nil || f.Kind != Unavailable || time.Since(began) > growthWait/2 {
		t.Errorf("%v after %v", f, time.Since(began))
	}
	healed(t, m, hostabi.Admit)
}

// A module whose state is more than memory and numbers is run as it is.
func TestWildModulesAreNotRunLean(t *testing.T) {
	for name, change := range map[string]func(*Guest){
		"table.set": func(g *Guest) {
			g.Tables = [][]byte{{0x70, 0, 1}}
			g.Hook(hostabi.Admit, Join(I32(0), []byte{OpRefNull, 0x70, OpTableSet, 0}, Echo))
		},
		"elem.drop": func(g *Guest) {
			g.Elems = [][]byte{{1, 0, 0}}
			g.Hook(hostabi.Admit, Join([]byte{OpMisc, 13, 0}, Echo))
		},
		"a reference that changes": func(g *Guest) { g.Globals = [][]byte{{0x70, 1, OpRefNull, 0x70, OpEnd}} },
		"exports like the host's":  func(g *Guest) { g.Raw["weir:m0"] = Export{Kind: 2, Index: 0} },
	} {
		g := NewGuest()
		change(g)
		m := load(t, lean+Interpreter, g.Build())
		if m.code.draft != nil || m.code.core.Load().image != nil {
			t.Errorf("%s: it is", name)
		}
		if got := ask(m, hostabi.Admit, "served"); got != "served" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A second policy of the same module, and one that is configured otherwise,
// need no rehearsal; one that fails at it does not spoil it for others.
func TestARehearsalIsForAllPoliciesOfAModule(t *testing.T) {
	wasm := NewGuest().Hook(hostabi.Configure, When(Unreachable)).Build()
	n := 0
	with := func(configure string) Options {
		return on(lean+Interpreter, Options{Wasm: wasm, Configure: []byte(configure), Instances: 1, Rehearse: func(*Rehearsal) { n++ }})
	}
	keep, err := Load(t.Context(), with("one"))
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	for _, c := range []string{"two", "x", "three"} {
		m, err := Load(t.Context(), with(c))
		if (err != nil) != (c == "x") {
			t.Fatal(err)
		}
		if err == nil {
			if string(m.Shape()) != c {
				t.Errorf("the shape is %q", m.Shape())
			}
			m.Close()
		}
	}
	if n != 1 {
		t.Errorf("%d rehearsals", n)
	}
}

// A module that was built again is rehearsed with what looks like what the last
// was seen to call; when that does not suffice, whole.
func TestAModuleLikeTheLastIsRehearsedWithLess(t *testing.T) {
	known := newFamiliar()
	build := func(version byte, start ...byte) []byte {
		g := NewGuest()
		// Functions that look like no other test's: drop, in a row.
		odd := func(n int) []byte { return slices.Repeat(Join(I32(int32(version)), []byte{0x1A}), n) }
		called := g.Helper(Sig("", ""), odd(30)...)
		g.Helper(Sig("", ""), odd(40)...) // by nobody
		g.Hook(hostabi.Admit, Join(odd(50), called, Echo))
		g.Export(hostabi.ExportInitialize, Signature{}, Join(odd(60), start)...)
		return g.Build()
	}
	for version, c := range []struct {
		start   []byte
		guessed bool
	}{{nil, false}, {nil, true}, {slices.Repeat([]byte{OpI32Const, 1, 0x1A}, 70), false}, {nil, true}} {
		m := load(t, lean+Interpreter, build(byte(version), c.start...), func(o *Options) { o.known = known })
		if m.code.guessed != c.guessed {
			t.Errorf("build %d: guessed is %v", version, m.code.guessed)
		}
		if got := ask(m, hostabi.Admit, "asked"); got != "asked" {
			t.Errorf("build %d: %q", version, got)
		}
		if there := m.code.core.Load().form.Resident; !there.Has(0) || there.Has(1) {
			t.Errorf("build %d: the wrong functions are there", version)
		}
	}
}

// What one build missed the next is not asked to miss again: who calls it waits while
// it is compiled, and those who find no instance meanwhile.
func TestAModuleLikeTheLastMissesNothingAgain(t *testing.T) {
	known := newFamiliar()
	for version := range int32(3) {
		g := NewGuest()
		deep := g.Helper(Sig("", ""), slices.Repeat(Join(I32(version), []byte{0x1A}), 30)...)
		g.Hook(hostabi.Admit, Join(nop, deep, Echo))
		m := load(t, lean+Interpreter, g.Build(), func(o *Options) { o.known, o.Rehearse = known, nil })
		if got := ask(m, hostabi.Admit, "asked"); got != "asked" || (m.code.grown > 0) != (version == 0) {
			t.Errorf("build %d: %q, grown %d times", version, got, m.code.grown)
		}
		if n := count(m.code.core.Load().form.Resident); n > 6 { // configure, admit, its helper, what is called at start
			t.Errorf("build %d: %d functions are there", version, n)
		}
	}
}

// count is the number of functions in a set.
func count(s rewrite.Set) (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// Code that cannot be added is a fault of the guest's, and is not compiled again by
// every call that misses it.
func TestWhatCannotBeAddedIsNotTriedAtOnceAgain(t *testing.T) {
	g := NewGuest()
	for h := hostabi.Classify; h < hostabi.NumHooks; h++ {
		g.Hook(h, Join(nop, Echo))
	}
	wasm := g.Build()
	synctest.Test(t, func(t *testing.T) {
		m, err := Load(t.Context(), on(lean+Compiler, Options{Name: "p", Wasm: wasm, Instances: 1, Rehearse: func(r *Rehearsal) {
			_, _, _ = r.Call(hostabi.Classify, nil, nil)
		}}))
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		good := m.code.image
		bad := *good
		bad.size = 2 * hostabi.MaxMemoryPages << 16 // with which nothing compiles
		set := func(i *image) {
			m.code.making.Lock()
			defer m.code.making.Unlock()
			m.code.image = i
		}
		set(&bad)
		tried := map[error]bool{}
		for range breakerFaults {
			if got := ask(m, hostabi.Admit, "a"); got != "fault: unavailable" {
				t.Errorf("what cannot be added: %q", got)
			}
			tried[m.code.stunted] = true
			time.Sleep(restMax)
			synctest.Wait()
		}
		if n := len(tried); n != 1 {
			t.Errorf("compiled %d times", n)
		}
		if b := m.Info().Breaker; b == "closed" {
			t.Errorf("the breaker is %s", b)
		}
		set(good)
		time.Sleep(breakerMax)
		if got := ask(m, hostabi.Classify, "b"); got != "b" {
			t.Errorf("what is there: %q", got)
		}
		time.Sleep(growthRest)
		if got := ask(m, hostabi.Admit, "c"); got != "c" || m.Info().Breaker != "closed" {
			t.Errorf("once it can be added: %q, the breaker %s", got, m.Info().Breaker)
		}
	})
}

// A compiled guest that misses one function after the other, as one that panics, is not
// compiled anew for each.
func TestACompiledGuestThatMissesTwoGetsAll(t *testing.T) {
	const funcs = 5
	g := NewGuest()
	g.Tables = [][]byte{{0x70, 0, funcs}}
	g.Types = []Signature{Sig("", "")}
	elem := Join([]byte{0}, I32(0), []byte{OpEnd, funcs})
	var all []byte
	for n := range byte(funcs) {
		g.Helper(Sig("", ""), nop...)
		elem = append(elem, n)
		all = Join(all, I32(int32(n)), []byte{OpCallIndirect, 0, 0})
	}
	g.Elems = [][]byte{elem}
	m := load(t, lean+Compiler, g.Hook(hostabi.Classify, When(all)).Build())
	if got := ask(m, hostabi.Classify, "x"); got != "x" {
		t.Error(got)
	}
	if n := m.code.grown; n != maxGrowthCompiled+1 {
		t.Errorf("grown %d times", n)
	}
}
