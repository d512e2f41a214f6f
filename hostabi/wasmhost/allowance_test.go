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
	f := func(name string, again int, left bool, steps ...time.Duration) { // between two looks
		t.Helper()
		now := time.Hour
		a, got := newAllowance(5*ms, now), true
		a.thread = func() time.Duration { return 0 }
		for range again {
			for _, d := range steps {
				now += d
				got = a.spend(now)
			}
		}
		if got != left {
			t.Errorf("%s: left is %v: %v", name, got, a.err())
		}
	}
	f("nothing done", 1, true)
	f("all of it", 250, true, 20*us)
	f("a little more", 251, false, 20*us)
	f("long steps", 10, true, maxStep)
	f("one too many", 11, false, maxStep)
	f("put aside once", 1, true, 10*us, 40*ms, 10*us)
	f("put aside often", 4, true, 10*us, 10*ms)
	f("at work and put aside", 9, false, 100*us, 4*ms)
	f("all that the clock allows", 2, true, 250*ms)
	f("more than it allows", 1, false, 500*ms+1)
}

func TestAllowanceOfAThreadThatSaysWhatItRan(t *testing.T) {
	const us, ms = time.Microsecond, time.Millisecond
	f := func(name string, again int, left bool, step, ran time.Duration) {
		t.Helper()
		now, thread := time.Hour, time.Second
		a, got := newAllowance(5*ms, now), true
		a.thread = func() time.Duration { return thread }
		for range again {
			for _, d := range []struct{ step, ran time.Duration }{{40 * us, 40 * us}, {step, ran}} {
				now, thread = now+d.step, thread+d.ran
				got = a.spend(now)
			}
		}
		if got != left {
			t.Errorf("%s: left is %v: %v", name, got, a.err())
		}
	}
	f("put aside each time", 50, true, 9*ms, 50*us) // the first counts as maxStep
	f("which is more than it had", 51, false, 9*ms, 51*us)
	f("at work all the time", 9, true, ms, ms)
	f("which counts as maxStep each", 10, false, ms, ms)
	f("on another thread each time", 9, true, 10*ms, -time.Minute)
	f("which counts as maxStep each", 10, false, 10*ms, -time.Minute)
}

func TestAThreadSaysWhatItRan(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // nothing does
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadTime()
	for n := 0; threadTime()-before < time.Millisecond; n++ {
		if n == 1e9 {
			t.Fatalf("it stays at %v", before)
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
