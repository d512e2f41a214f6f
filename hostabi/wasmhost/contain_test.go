package wasmhost

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"weir/hostabi"
	. "weir/hostabi/wasmhost/wasmtest"
)

// A panic of the host's own, in a call, or while an instance is replaced in the
// background, is a fault like a guest's: it is told once with its stack, the hook
// falls back, and the pool is whole again afterwards.
func TestAPanicInTheHostIsAFault(t *testing.T) {
	wasm := NewGuest().Hook(hostabi.Classify, When(Unreachable)).Build()
	synctest.Test(t, func(t *testing.T) {
		var panics atomic.Int32
		var where atomic.Value
		var badLine atomic.Bool
		m, err := Load(t.Context(), Options{
			Name: "p", Wasm: wasm, Engine: Interpreter, Instances: 1,
			Panic: func(_ any, stack []byte) {
				panics.Add(1)
				where.Store(string(stack))
				panic("telling fails too")
			},
			Log: func(string, string) {
				if badLine.Load() {
					panic("so does logging")
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close() // waits for every slot
		told := func(n int32, in string) {
			t.Helper()
			if s, _ := where.Load().(string); panics.Load() != n || !strings.Contains(s, in) {
				t.Errorf("%d panics, want %d in %s: %s", panics.Load(), n, in, s)
			}
		}

		in := <-m.slots
		in.memory = nil // as no instance has it
		m.slots <- in
		if got := ask(m, hostabi.Classify, "x"); got != "fault: trap" {
			t.Errorf("a call in which the host panics: %q", got)
		}
		told(1, "(*instance).call")
		synctest.Wait()
		time.Sleep(time.Minute)
		if got := ask(m, hostabi.Classify, "good"); got != "good" {
			t.Errorf("after it: %q", got)
		}

		code := m.code
		m.makeMu.Lock()
		m.code = nil // nothing can be made of it
		m.makeMu.Unlock()
		badLine.Store(true)
		in = <-m.slots
		m.discard(in, m.fault(hostabi.Classify, Trap, errClosed), false)
		synctest.Wait()
		told(2, "(*Module).heal")
		m.makeMu.Lock()
		m.code = code
		m.makeMu.Unlock()
		time.Sleep(healMax)
		synctest.Wait()
		if got := ask(m, hostabi.Classify, "good"); got != "good" {
			t.Errorf("once it can be made: %q", got)
		}

		if m.renewing.CompareAndSwap(false, true) {
			m.makeMu.Lock()
			m.code = nil
			m.makeMu.Unlock()
			m.healing.Go(m.renewed)
			synctest.Wait()
			m.makeMu.Lock()
			m.code = code
			m.makeMu.Unlock()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		told(3, "(*Module).renew")
		if m.renewing.Load() {
			t.Error("it is still renewing")
		}
	})
}

// panicky is a context in which the n-th question for a value panics.
type panicky struct {
	context.Context
	left *int
}

func (p panicky) Value(key any) any {
	if *p.left--; *p.left == 0 {
		panic("a value")
	}
	return p.Context.Value(key)
}

// A panic wherever a module is loaded is why it does not load, and told. What was
// made until then is given back, and the same bytes load the next time.
func TestAPanicWhileLoadingIsContained(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		wasm := NewGuest().Build()
		panics := 0
		o := on(engine, Options{Name: "p", Wasm: wasm, Instances: 2, Panic: func(any, []byte) { panics++ }})
		loaded := func(ctx context.Context, o Options) bool {
			t.Helper()
			held, before := CompiledModules(), panics
			m, err := Load(ctx, o)
			if err == nil {
				m.Close()
			} else if le, ok := errors.AsType[*LoadError](err); !ok || le.Policy != "p" || !strings.HasPrefix(le.Reason, "panic") || strings.Contains(le.Reason, "\n") || panics != before+1 {
				t.Errorf("%d panics told: %v", panics-before, err)
			}
			if n := CompiledModules(); n != held {
				t.Errorf("%d compiled modules are left, %d were", n, held)
			}
			return err == nil
		}
		for _, o.Background = range []bool{true, false} {
			places := 0
			for n := 1; !loaded(panicky{t.Context(), &n}, o); places++ {
				n = places + 2
			}
			if places == 0 {
				t.Error("no context was asked")
			}
		}
		if o.leanFrom > 0 {
			rehearsed := o
			rehearsed.Rehearse = func(*Rehearsal) { panic("rehearsed") }
			if loaded(t.Context(), rehearsed) {
				t.Error("it loads though its rehearsal panics")
			}
		}
		load(t, engine, wasm)
	})
}

// An instance that is begun in a panic is given back, with its memory.
func TestAPanicLeavesNoInstance(t *testing.T) {
	m := load(t, lean+Interpreter, NewGuest().Build(), func(o *Options) { o.Panic = func(any, []byte) {} })
	core := m.code.core.Load()
	live, refs := m.live.Load(), core.refs
	core.image.globals = append(core.image.globals, 0) // which no guest has
	if in, err := m.alike(); err == nil {
		in.close()
		t.Fatal("it is made")
	} else if _, ok := err.(panicError); !ok {
		t.Fatal(err)
	}
	if m.live.Load() != live || core.refs != refs {
		t.Errorf("%d instances and %d users of the code, before the panic %d and %d", m.live.Load(), core.refs, live, refs)
	}
}
