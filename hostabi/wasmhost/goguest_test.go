//go:build !race

// Compiling a Go guest under the race detector takes minutes, and nothing runs
// beside it: "make test" runs this file without.

package wasmhost

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"weir/hostabi"
	. "weir/hostabi/wasmhost/wasmtest"
)

// goGuest builds testdata/goguest with the go command, once.
var goGuest = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "goguest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "guest.wasm")
	build := exec.Command("go", "build", "-trimpath", "-buildmode=c-shared", "-o", out, "./testdata/goguest")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
})

// asking rehearses with what a test will ask: each function that shows to be
// needed later has the guest compiled again.
func asking(h hostabi.Hook, inputs ...string) func(*Rehearsal) {
	return func(r *Rehearsal) {
		for _, in := range inputs {
			_, _, _ = r.Call(h, []byte(in), nil)
		}
	}
}

func TestAGoGuestServes(t *testing.T) {
	wasm, err := goGuest()
	if err != nil {
		t.Fatal(err)
	}
	bareEngines(t, func(t *testing.T, engine string) { // large: it is run lean in any case
		var mu sync.Mutex
		var lines []string
		m := load(t, engine, wasm, func(o *Options) {
			o.Configure = []byte("care")
			o.CallTimeout, o.InitTimeout = 10*time.Second, 30*time.Second
			o.Rehearse = asking(hostabi.Classify, `{"type":"typing"}`, `{`)
			o.Log = func(level, msg string) {
				mu.Lock()
				defer mu.Unlock()
				lines = append(lines, level+" "+msg)
			}
		})
		if got := ask(m, hostabi.Classify, `{"type":"typing"}`); got != "typing" {
			t.Errorf("classify answers %q", got)
		}
		if got := ask(m, hostabi.Classify, `{`); got != "status 2" {
			t.Errorf("classify answers %q to bad input", got)
		}
		if got := ask(m, hostabi.Admit, ""); got != "fault: trap" {
			t.Errorf("a panic is %q", got)
		}
		m.Close()
		for _, want := range []string{
			"info guest: configured with care",
			"warn guest: classifying typing",
			"warn guest: panic: no admittance",
			"warn hook admit: trap: wasm error: unreachable",
		} {
			if !slices.Contains(lines, want) {
				t.Errorf("no line %q in %q", want, lines)
			}
		}
	})
}

// The engines side by side on a real guest, and on one that only echoes.
func BenchmarkCall(b *testing.B) {
	wasm, err := goGuest()
	if err != nil {
		b.Fatal(err)
	}
	for _, guest := range []struct {
		name, in string
		wasm     []byte
	}{{"echo", "key", NewGuest().Build()}, {"go", `{`, wasm}} {
		for _, engine := range []string{Interpreter, Compiler} {
			b.Run(guest.name+"/"+engine, func(b *testing.B) {
				m := load(b, engine, guest.wasm, func(o *Options) { o.InitTimeout = 30 * time.Second; o.Log = nil })
				in, out := []byte(guest.in), make([]byte, 0, hostabi.MaxOutput)
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := m.Call(hostabi.Classify, in, out); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func TestAGoGuestThatLeaksDoesNotFault(t *testing.T) {
	wasm, err := goGuest()
	if err != nil {
		t.Fatal(err)
	}
	bareEngines(t, func(t *testing.T, engine string) { // large: it is run lean in any case
		m := load(t, engine, wasm, func(o *Options) {
			o.CallTimeout, o.InitTimeout = 10*time.Second, 30*time.Second
			o.Rehearse = asking(hostabi.FramingHook, "k")
		})
		for end := time.Now().Add(60 * time.Second); m.Info().Retired < 2; {
			if got := ask(m, hostabi.FramingHook, "k"); got != "k" {
				t.Fatal(got)
			}
			if time.Now().After(end) {
				t.Fatalf("not replaced: %+v", m.Info())
			}
		}
	})
}
