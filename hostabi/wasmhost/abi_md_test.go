package wasmhost

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/hostabi"
	. "weir/hostabi/wasmhost/wasm"
	. "weir/hostabi/wasmhost/wasmtest"
)

const abi = "../ABI.md"

func TestImportsOfABIEqualTheCode(t *testing.T) {
	var written []string
	for _, row := range ABITable(t, abi, "function") {
		for name := range strings.SplitSeq(row[0], ", ") {
			written = append(written, strings.Trim(name, "`"))
		}
	}
	slices.Sort(written)
	if code := slices.Sorted(maps.Keys(wasiFunctions)); !slices.Equal(written, code) {
		t.Errorf("of %s\nABI.md %v\ncode   %v", WASI, written, code)
	}
	modules := ABITable(t, abi, "module")
	if len(modules) != 1 || modules[0][0] != "`"+hostabi.ImportModule+"`" || modules[0][1] != "`"+hostabi.ImportLog+"`" ||
		len(hostFunctions) != 2 || len(hostFunctions[hostabi.ImportModule]) != 1 {
		t.Errorf("beside it ABI.md has %v", modules)
	}
}

// The other static bounds are those of package rewrite.
func TestCompileTimeOfABIEqualsTheCode(t *testing.T) {
	for _, row := range ABITable(t, abi, "static bound") {
		if row[0] == "compiling the module" && row[1] == fmt.Sprintf("%.0f s", compileTimeout.Seconds()) {
			return
		}
	}
	t.Errorf("ABI.md does not give %v for compiling the module", compileTimeout)
}

func TestTimesOfABIEqualTheCode(t *testing.T) {
	var times []time.Duration
	for _, row := range ABITable(t, abi, "time of") {
		for _, cell := range row[1:3] {
			d, _ := time.ParseDuration(strings.ReplaceAll(cell, " ", "")) // 0 for the dash
			times = append(times, d)
		}
	}
	want := []time.Duration{
		DefaultCallTimeout, wall(DefaultCallTimeout),
		DefaultInitTimeout, wall(DefaultInitTimeout),
		0, wall(DefaultCallTimeout),
		0, growthWait,
	}
	if !slices.Equal(times, want) {
		t.Errorf("ABI.md %v, code %v", times, want)
	}
}

func TestSentencesOfABIEqualTheCode(t *testing.T) {
	b, err := os.ReadFile(abi)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(b)), " ")
	for _, want := range []string{
		fmt.Sprintf("grown by more than %d MiB since `weir_configure`", growthFirst>>20),
		fmt.Sprintf("grows as much within %d calls", youngCalls),
		fmt.Sprintf("at most by %d MiB", growthMax>>20),
		fmt.Sprintf("at most %v ms each", float64(maxStep)/float64(time.Millisecond)),
		fmt.Sprintf("at most %.0f s, it is not asked", breakerMax.Seconds()),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("ABI.md does not say %q", want)
		}
	}
	if breakerFaults != 5 || breakerFirst != time.Second {
		t.Error("ABI.md says that five failed calls of a hook open its breaker for a second")
	}
}
