package wasmhost

import (
	"runtime/metrics"
	"testing"
	"testing/synctest"
	"time"

	. "weir/hostabi/wasmhost/wasm"
	. "weir/hostabi/wasmhost/wasmtest"
)

// What compiling took is given back once, a while after the last of several
// modules, and not for small ones or for bytes that were compiled before.
func TestCompilingLeavesNothingBehind(t *testing.T) {
	forced := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/cycles/forced:gc-cycles"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	large := func(with byte) []byte {
		g := NewGuest()
		g.Custom = AppendSection(nil, SecCustom, append(AppendName(nil, "x"), append(make([]byte, trimFrom), with)...))
		return g.Build()
	}
	synctest.Test(t, func(t *testing.T) {
		load := func(wasm []byte) {
			m, err := Load(t.Context(), Options{Wasm: wasm, Instances: 1})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(m.Close)
		}
		trims := func() uint64 {
			before := forced()
			time.Sleep(trimAfter + 1)
			synctest.Wait()
			return forced() - before
		}
		load(NewGuest().Build())
		if n := trims(); n != 0 {
			t.Errorf("%d times for a small one", n)
		}
		load(large(1))
		time.Sleep(trimAfter / 2)
		load(large(2))
		if n := trims(); n != 1 {
			t.Errorf("%d times for two", n)
		}
		load(large(2))
		if n := trims(); n != 0 {
			t.Errorf("%d times for the same", n)
		}
	})
}
