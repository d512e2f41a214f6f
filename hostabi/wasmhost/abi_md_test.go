package wasmhost

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"weir/hostabi"
)

// abiRows returns the cells of the table of ABI.md whose header begins with
// first, without the header.
func abiRows(t *testing.T, first string) (rows [][]string) {
	t.Helper()
	b, err := os.ReadFile("../ABI.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(b), "\n| "+first+" |")
	if !found {
		t.Fatalf("ABI.md has no table %q", first)
	}
	table, _, _ = strings.Cut(table, "\n\n")
	for _, line := range strings.Split(table, "\n")[2:] {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}

func TestImportsOfABIEqualTheCode(t *testing.T) {
	var written []string
	for _, row := range abiRows(t, "function") {
		for name := range strings.SplitSeq(row[0], ", ") {
			written = append(written, strings.Trim(name, "`"))
		}
	}
	slices.Sort(written)
	if code := slices.Sorted(maps.Keys(wasiFunctions)); !slices.Equal(written, code) {
		t.Errorf("of %s\nABI.md %v\ncode   %v", wasiModule, written, code)
	}
	modules := abiRows(t, "module")
	if len(modules) != 1 || modules[0][0] != "`"+hostabi.ImportModule+"`" || modules[0][1] != "`"+hostabi.ImportLog+"`" ||
		len(hostFunctions) != 2 || len(hostFunctions[hostabi.ImportModule]) != 1 {
		t.Errorf("beside it ABI.md has %v", modules)
	}
}

func TestStaticBoundsOfABIEqualTheCode(t *testing.T) {
	want := map[string]int{
		"tables": maxTables,
		"locals of a function, beside its parameters": maxLocals,
		"code of a function":                          maxBody,
		"blocks of a function":                        maxBlocks,
		"blocks × variables of a function":            maxBlockVars,
		"nested loops × variables of a function":      maxLoopVars,
		"compiling the module":                        int(compileTimeout / time.Second),
	}
	for _, row := range abiRows(t, "static bound") {
		number, _, _ := strings.Cut(row[1], " ")
		if n, err := strconv.Atoi(number); err != nil || n != want[row[0]] {
			t.Errorf("%s: %s in ABI.md, %d in the code", row[0], row[1], want[row[0]])
		}
		delete(want, row[0])
	}
	for bound := range want {
		t.Errorf("ABI.md lacks %s", bound)
	}
}

func TestTimesOfABIEqualTheCode(t *testing.T) {
	var times []time.Duration
	for _, row := range abiRows(t, "time of") {
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
	b, err := os.ReadFile("../ABI.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(b)), " ")
	for _, want := range []string{
		fmt.Sprintf("grown by more than %d MiB since `weir_configure`", growthFirst>>20),
		fmt.Sprintf("grows as much within %d calls", youngCalls),
		fmt.Sprintf("at most by %d MiB", growthMax>>20),
		fmt.Sprintf("at most %v ms each", float64(maxStep)/float64(time.Millisecond)),
		fmt.Sprintf("at most %.0f s, the policy is not asked", breakerMax.Seconds()),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("ABI.md does not say %q", want)
		}
	}
	if breakerFaults != 5 || breakerFirst != time.Second {
		t.Error("ABI.md says that five failed calls open the breaker for a second")
	}
}
