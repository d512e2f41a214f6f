package rewrite

import (
	"strconv"
	"strings"
	"testing"

	. "weir/hostabi/wasmhost/wasmtest"
)

func TestStaticBoundsOfABIEqualTheCode(t *testing.T) {
	want := map[string]int{
		"tables": maxTables,
		"locals of a function, beside its parameters": maxLocals,
		"code of a function":                          maxBody,
		"blocks of a function":                        maxBlocks,
		"blocks × variables of a function":            maxBlockVars,
		"nested loops × variables of a function":      maxLoopVars,
	}
	for _, row := range ABITable(t, "../../ABI.md", "static bound") {
		if row[0] == "compiling the module" {
			continue // bounded by who runs the compiler
		}
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
