package wasmhost

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"weir/hostabi"
	. "weir/hostabi/wasmhost/wasm"
	. "weir/hostabi/wasmhost/wasmtest"
)

func TestAllowance(t *testing.T) {
	const us, ms = time.Microsecond, time.Millisecond
	for name, c := range map[string]struct {
		steps []time.Duration // between two looks, each
		again int             // so often
		left  bool
	}{
		"nothing done":              {nil, 1, true},
		"all of it":                 {[]time.Duration{20 * us}, 250, true},
		"a little more":             {[]time.Duration{20 * us}, 251, false},
		"long steps":                {[]time.Duration{maxStep}, 10, true},
		"one too many":              {[]time.Duration{maxStep}, 11, false},
		"put aside once":            {[]time.Duration{10 * us, 40 * ms, 10 * us}, 1, true},
		"put aside often":           {[]time.Duration{10 * us, 10 * ms}, 4, true},
		"at work and put aside":     {[]time.Duration{100 * us, 4 * ms}, 9, false},
		"all that the clock allows": {[]time.Duration{250 * ms}, 2, true},
		"more than it allows":       {[]time.Duration{500*ms + 1}, 1, false},
	} {
		now := time.Hour
		a, left := newAllowance(5*ms, now), true
		for range c.again {
			for _, d := range c.steps {
				now += d
				left = a.spend(now)
			}
		}
		if left != c.left {
			t.Errorf("%s: left is %v: %v", name, left, a.err())
		}
	}
}

// away makes o.Log take d of the wall clock, as if the thread did not run
// meanwhile, and loads a guest whose admit logs and then loops n times.
func away(t *testing.T, engine string, d time.Duration, n int32) *Module {
	g := NewGuest()
	log := g.Importing(hostabi.ImportModule, hostabi.ImportLog, Sig("iii", ""))
	g.Hook(hostabi.Admit, Join(I32(1), I32(Region), I32(1), log, spin(n), Echo))
	g.Exports[hostabi.Admit.Export()].Locals = []byte{1, 1, 0x7F}
	return load(t, engine, g.Build(), func(o *Options) {
		o.CallTimeout = 50 * time.Millisecond
		o.Log = func(_, msg string) {
			for start := time.Now(); strings.HasPrefix(msg, "guest: ") && time.Since(start) < d; {
				runtime.Gosched()
			}
		}
	})
}

// turns of a loop have 32 looks at the clock, one every 256 (ticks of rewrite).
// Without any, TestTheWallClockEndsACallInAnyCase would fail; a hundred of maxStep
// each would be all that the call has.
const turns = 1 << 13

// spin counts local 1 up to n.
func spin(n int32) []byte {
	return Join([]byte{OpLoop, BlockEmpty, OpLocalGet, 1}, I32(1), []byte{0x6A, OpLocalTee, 1}, I32(n), []byte{0x49, OpBrIf, 0, OpEnd})
}

func TestTimeInWhichTheGuestDoesNotRunIsNotItsOwn(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		m := away(t, engine, 120*time.Millisecond, turns)
		if got := ask(m, hostabi.Admit, "late"); got != "late" {
			t.Errorf("got %q", got)
		}
	})
}

func TestTheWallClockEndsACallInAnyCase(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		m := away(t, engine, 501*time.Millisecond, turns)
		_, _, err := m.Call(hostabi.Admit, []byte("late"), nil)
		f, ok := err.(*Fault)
		if !ok || f.Kind != Timeout || !strings.Contains(err.Error(), "allowed are 500ms") {
			t.Errorf("got %v", err)
		}
	})
}
