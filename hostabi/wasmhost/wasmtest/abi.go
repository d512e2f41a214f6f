package wasmtest

import (
	"maps"
	"os"
	"strconv"
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

// HoldNumbers holds the numbers in one column of rows to those that the code has
// for the names in another: each name once, and none that one side lacks.
func HoldNumbers(t testing.TB, rows [][]string, name, number int, want map[string]int) {
	t.Helper()
	want = maps.Clone(want)
	for _, row := range rows {
		name := strings.Trim(row[name], "`")
		digits, _, _ := strings.Cut(row[number], " ")
		if n, err := strconv.Atoi(digits); err != nil || n != want[name] {
			t.Errorf("%s: %s in ABI.md, %d in the code", name, row[number], want[name])
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("ABI.md lacks %s", name)
	}
}
