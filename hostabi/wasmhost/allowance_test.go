package wasmhost

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"weir/hostabi"
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
	g := newGuest()
	log := g.importing(hostabi.ImportModule, hostabi.ImportLog, sig("iii", ""))
	g.hook(hostabi.Admit, join(i32(1), i32(region), i32(1), log, spin(n), echo))
	g.exports[hostabi.Admit.Export()].locals = []byte{1, 1, 0x7F}
	return load(t, engine, g.build(), func(o *Options) {
		o.CallTimeout = 50 * time.Millisecond
		o.Log = func(_, msg string) {
			for start := time.Now(); strings.HasPrefix(msg, "guest: ") && time.Since(start) < d; {
				runtime.Gosched()
			}
		}
	})
}

// spin counts local 1 up to n.
func spin(n int32) []byte {
	return join([]byte{opLoop, blockEmpty, opLocalGet, 1}, i32(1), []byte{0x6A, opLocalTee, 1}, i32(n), []byte{0x49, opBrIf, 0, opEnd})
}

func TestTimeInWhichTheGuestDoesNotRunIsNotItsOwn(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		m := away(t, engine, 120*time.Millisecond, 2*ticks)
		if got := ask(m, hostabi.Admit, "late"); got != "late" {
			t.Errorf("got %q", got)
		}
	})
}

func TestTheWallClockEndsACallInAnyCase(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		m := away(t, engine, 501*time.Millisecond, 2*ticks)
		_, _, err := m.Call(hostabi.Admit, []byte("late"), nil)
		f, ok := err.(*Fault)
		if !ok || f.Kind != Timeout || !strings.Contains(err.Error(), "allowed are 500ms") {
			t.Errorf("got %v", err)
		}
	})
}
