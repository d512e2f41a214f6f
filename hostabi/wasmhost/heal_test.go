package wasmhost

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/hostabi"
	. "weir/hostabi/wasmhost/wasmtest"
)

// A replacement that fails is tried again, later and later, until it works.
func TestReplacementsThatFailAreTriedAgain(t *testing.T) {
	wasm := NewGuest().Hook(hostabi.Classify, When(Unreachable)).Build()
	synctest.Test(t, func(t *testing.T) {
		var failed []time.Duration
		var start time.Time
		m, err := Load(t.Context(), Options{Name: "p", Wasm: wasm, Engine: Interpreter, Instances: 1, Log: func(_, msg string) {
			if strings.HasPrefix(msg, "an instance cannot be replaced: weir_configure answers differently") {
				failed = append(failed, time.Since(start))
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		configure := func(with string) {
			m.makeMu.Lock()
			defer m.makeMu.Unlock()
			m.opts.Configure = []byte(with)
		}
		configure("another shape")
		start = time.Now()
		if got := ask(m, hostabi.Classify, "x"); got != "fault: trap" {
			t.Fatal(got)
		}
		if got := ask(m, hostabi.Classify, "good"); got != "fault: unavailable" {
			t.Errorf("without an instance: %q", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if i := m.Info(); i.Instances != 0 || i.Breaker != "closed" {
			t.Errorf("%+v", i)
		}
		at := time.Duration(0)
		for n, pause := 0, healFirst; at <= time.Minute; n++ {
			if n >= len(failed) || failed[n] != at {
				t.Fatalf("failed after %v; number %d not after %v", failed, n, at)
			}
			at += pause
			pause = min(2*pause, healMax)
		}
		configure("")
		time.Sleep(healMax)
		synctest.Wait()
		if got := ask(m, hostabi.Classify, "good"); got != "good" {
			t.Errorf("once it can be made: %q", got)
		}
	})
}

// Closing does not wait for a pause between two replacements.
func TestCloseEndsAReplacement(t *testing.T) {
	wasm := NewGuest().Hook(hostabi.Classify, When(Unreachable)).Build()
	synctest.Test(t, func(t *testing.T) {
		m, err := Load(t.Context(), Options{Name: "p", Wasm: wasm, Engine: Interpreter, Instances: 2})
		if err != nil {
			t.Fatal(err)
		}
		m.opts.InitTimeout = -1 // nothing starts in that
		for range 2 {
			if got := ask(m, hostabi.Classify, "x"); got != "fault: trap" {
				t.Fatal(got)
			}
		}
		time.Sleep(10 * time.Second)
		before := time.Now()
		m.Close()
		if d := time.Since(before); d != 0 || m.Info().Instances != 0 {
			t.Errorf("closed after %v: %+v", d, m.Info())
		}
	})
}

// A trial that finds no instance is none: the breaker may have another.
func TestATrialWithoutAnInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := Load(t.Context(), Options{Name: "p", Wasm: NewGuest().Build(), Engine: Interpreter, Instances: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		for range breakerFaults {
			m.breakers[hostabi.Admit].failure(time.Now(), false)
		}
		busy := <-m.slots
		time.Sleep(breakerFirst)
		if got := ask(m, hostabi.Admit, ""); got != "fault: unavailable" {
			t.Errorf("got %q", got)
		}
		m.slots <- busy
		if got := ask(m, hostabi.Admit, "again"); got != "again" || m.Info().Breaker != "closed" {
			t.Errorf("got %q with the breaker %s", got, m.Info().Breaker)
		}
	})
}

// Waiting for an instance is bounded and nothing that the guest did.
func TestWaitingForAnInstanceIsNoFaultOfTheGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := Load(t.Context(), Options{Name: "p", Wasm: NewGuest().Build(), Engine: Interpreter, Instances: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		busy := <-m.slots
		for range 2 * breakerFaults {
			start := time.Now()
			if got := ask(m, hostabi.Admit, ""); got != "fault: unavailable" || time.Since(start) != wall(DefaultCallTimeout) {
				t.Errorf("got %q after %v", got, time.Since(start))
			}
		}
		m.slots <- busy
		if got := ask(m, hostabi.Admit, "again"); got != "again" || m.Info().Breaker != "closed" {
			t.Errorf("got %q with the breaker %s", got, m.Info().Breaker)
		}
	})
}
