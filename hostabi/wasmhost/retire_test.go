package wasmhost

import (
	"strings"
	"testing"
	"time"

	"weir/hostabi"
	. "weir/hostabi/wasmhost/wasm"
	. "weir/hostabi/wasmhost/wasmtest"
)

// leaky grows its memory by a page whenever the input of classify begins with x.
func leaky() []byte {
	return NewGuest().Hook(hostabi.Classify, When(Join(I32(1), []byte{OpMemoryGrow, 0, 0x1A}))).Build()
}

// seep asks n times; every 8th call leaves a page behind.
func seep(t *testing.T, m *Module, n int) {
	t.Helper()
	for i := range n {
		in := "good"
		if i%8 == 0 {
			in = "x"
		}
		if got := ask(m, hostabi.Classify, in); got != in {
			t.Fatalf("call %d: got %q", i, got)
		}
	}
}

// until asks, without leaking, until the state is reached.
func until(t *testing.T, m *Module, what string, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !reached(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s; %+v", what, m.Info())
		}
		if got := ask(m, hostabi.Classify, "good"); got != "good" {
			t.Fatalf("until %s: got %q", what, got)
		}
	}
}

// Every call is answered while instances that have grown are replaced, also when
// there is but one.
func TestAnInstanceThatHasGrownIsReplaced(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		for _, pool := range []int{1, 3} {
			m := load(t, engine, leaky(), func(o *Options) { o.Instances = pool })
			fresh, pages := m.Info().MemoryBytes, int64(0)
			for end := time.Now().Add(20 * time.Second); m.Info().Retired < 3*int64(pool); pages++ {
				seep(t, m, 8)
				if time.Now().After(end) {
					t.Fatalf("not replaced: %+v", m.Info())
				}
			}
			if i := m.Info(); i.Faults != 0 || i.Instances != pool || i.Breaker != "closed" ||
				i.GrownBytes < 3*int64(pool)*growthFirst || i.GrownBytes > pages<<16 {
				t.Errorf("%d pages: %+v", pages, i)
			}
			until(t, m, "small", func() bool { return m.Info().MemoryBytes < fresh+int64(pool)*2*growthFirst })
		}
	})
}

func TestAGuestThatNeedsMemoryKeepsIt(t *testing.T) {
	m := load(t, Interpreter, leaky())
	for range growthMax >> 16 { // in the first few calls: more than growthFirst
		if got := ask(m, hostabi.Classify, "x"); got != "x" {
			t.Fatal(got)
		}
		if m.Info().MemoryBytes == 6<<20 {
			break
		}
	}
	seep(t, m, 1000)
	until(t, m, "replaced", func() bool { return m.Info().Retired > 0 })
	if g := m.growth.Load(); g != 2*growthFirst && g != growthMax {
		t.Errorf("it may grow by %d bytes", g)
	}
}

// An instance that cannot be replaced goes on.
func TestAnInstanceThatHasGrownServesUntilItCanBeReplaced(t *testing.T) {
	said := make(chan string, 1000)
	m := load(t, Interpreter, leaky(), func(o *Options) { o.Log = func(level, msg string) { said <- level + " " + msg } })
	configure := func(with string) {
		m.makeMu.Lock()
		m.opts.Configure = []byte(with)
		m.makeMu.Unlock()
	}
	configure("another shape")
	seep(t, m, 8*(growthFirst>>16+1))
	until(t, m, "a failure", func() bool { return len(said) > 0 })
	if got := <-said; !strings.HasPrefix(got, "error an instance cannot be replaced") {
		t.Errorf("said %q", got)
	}
	configure("")
	until(t, m, "retired", func() bool { return m.Info().Retired > 0 })
	if i := m.Info(); i.Faults != 0 {
		t.Errorf("%+v", i)
	}
}

// One that waits to take the place of another is closed with them.
func TestASpareInstanceIsClosed(t *testing.T) {
	m := load(t, Interpreter, leaky())
	in, _ := m.another()
	m.spare <- in
}
