package wasmhost

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/hostabi"
	"weir/proxy/leak"
)

// TestMain fails when a test leaves a goroutine or compiled code behind.
func TestMain(m *testing.M) {
	leak.Exit(m.Run(), leak.Goroutines("wasmhost"), func() string {
		if n := CompiledModules(); n > 0 {
			return fmt.Sprint(n, " compiled modules")
		}
		return ""
	})
}

// lean, before an engine's name, is for modules that are run lean, however small.
const lean = "lean "

// engines runs a test on both, with the module as it is and lean.
func engines(t *testing.T, test func(t *testing.T, engine string)) {
	bareEngines(t, test)
	for _, e := range []string{lean + Interpreter, lean + Compiler} {
		t.Run(e, func(t *testing.T) { test(t, e) })
	}
}

// bareEngines runs a test on both.
func bareEngines(t *testing.T, test func(t *testing.T, engine string)) {
	for _, e := range []string{Interpreter, Compiler} {
		t.Run(e, func(t *testing.T) { test(t, e) })
	}
}

// on sets the engine as engines names it.
func on(engine string, o Options) Options {
	if e, ok := strings.CutPrefix(engine, lean); ok {
		engine, o.leanFrom = e, 1
	}
	o.Engine = engine
	o.known = newFamiliar() // what other tests called is none of its business
	return o
}

// load loads a guest that must load, with one instance and times for a busy
// machine, and closes it with the test.
func load(t testing.TB, engine string, wasm []byte, change ...func(*Options)) *Module {
	t.Helper()
	o := on(engine, Options{
		Name: "p", Wasm: wasm, Instances: 1,
		CallTimeout: 100 * time.Millisecond, InitTimeout: 5 * time.Second,
		Log: func(level, msg string) { t.Logf("%s: %s", level, msg) },
		Rehearse: func(r *Rehearsal) {
			for h := hostabi.Classify; h < hostabi.NumHooks; h++ {
				_, _, _ = r.Call(h, []byte("good"), nil) // what comes of it is for the test to see
			}
		},
	})
	for _, c := range change {
		c(&o)
	}
	m, err := Load(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Close()
		if i := m.Info(); i.Instances != 0 || i.MemoryBytes != 0 {
			t.Errorf("after Close: %d instances, %d bytes of memory", i.Instances, i.MemoryBytes)
		}
	})
	return m
}

// ask calls a hook and returns what came of it: the output, or the kind of fault.
func ask(m *Module, h hostabi.Hook, in string) string {
	out, r, err := m.Call(h, []byte(in), nil)
	if f, ok := err.(*Fault); ok {
		return "fault: " + string(f.Kind)
	}
	if r.Status() != hostabi.StatusOK {
		return fmt.Sprintf("status %d", r.Status())
	}
	return string(out)
}

// healed waits until the hook echoes again.
func healed(t *testing.T, m *Module, h hostabi.Hook) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		switch got := ask(m, h, "good"); got {
		case "good":
			return
		case "fault: unavailable":
			if time.Now().After(end) {
				t.Fatal("not healed")
			}
		default:
			t.Fatalf("after the fault: %q", got)
		}
	}
}
