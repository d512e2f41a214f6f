package wasmtest

import (
	"os"
	"strings"
	"testing"
)

// ABITable returns the cells of the table of ABI.md whose header begins with
// first, without the header.
func ABITable(t testing.TB, file, first string) (rows [][]string) {
	t.Helper()
	b, err := os.ReadFile(file)
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
