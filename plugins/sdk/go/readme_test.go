package sdk_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/hostabi"
	"weir/hostabi/conformance"
	"weir/hostabi/wasmhost"
)

// TestTenLinesAreAPolicy builds the README's example as it stands there.
func TestTenLinesAreAPolicy(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(readme), "```go\n")
	source, _, _ := strings.Cut(after, "```")
	lines := 0
	for line := range strings.Lines(source) {
		if strings.TrimSpace(line) != "" {
			lines++
		}
	}
	if lines > 10 {
		t.Errorf("%d lines of code", lines)
	}
	file := filepath.Join(t.TempDir(), "policy.go")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := wasmhost.Load(t.Context(), wasmhost.Options{Name: "ten", Wasm: conformance.BuildGo(t, file), Instances: 1, InitTimeout: 1 << 40, CallTimeout: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	out, _, err := m.Call(hostabi.Classify, (&hostabi.ClassifyInput{Key: []byte("typing")}).AppendTo(nil), nil)
	var rule hostabi.Rule
	if err != nil || rule.Decode(out) != nil || rule.Class != hostabi.Droppable {
		t.Errorf("typing: % x, %v", out, err)
	}
}
