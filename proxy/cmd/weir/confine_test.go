package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// --confine holds for every command that reads the configuration.
func TestConfine(t *testing.T) {
	path := write(t, "gateway.toml", minimal)
	elsewhere := filepath.Dir(write(t, "future.wasm", string(futureModule)))
	dir := filepath.Dir(path)
	if status, out, err := weir(t, "validate", "-c", path, "--confine", dir); status != exitOK || err != "" {
		t.Errorf("status %d, %q, %q", status, out, err)
	}
	for _, command := range []string{"validate", "run", "reload"} {
		status, out, err := weir(t, command, "-c", path, "--confine", elsewhere)
		if status != exitFailure || out != "" || !strings.Contains(err, path+" is not in "+elsewhere) {
			t.Errorf("weir %s: status %d, stdout %q, stderr %q", command, status, out, err)
		}
		for _, none := range []string{"", filepath.Join(dir, "none")} {
			if status, _, err := weir(t, command, "-c", path, "--confine", none); status != exitUsage || !strings.Contains(err, "--confine") {
				t.Errorf("weir %s --confine %q: status %d, %q", command, none, status, err)
			}
		}
	}
	if err := os.Symlink(filepath.Join(elsewhere, "future.wasm"), filepath.Join(dir, "link.wasm")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(minimal+"[policy.a]\nmodule = \"link.wasm\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"validate", "run"} {
		want := path + ":6: policy.a.module: cannot be read: " + filepath.Join(dir, "link.wasm") + " is reached through a symbolic link that leads out of " + dir +
			" or is absolute, and --confine allows neither\n"
		if status, out, err := weir(t, command, "-c", path, "--confine", dir); status != exitFailure || out != "" || err != want {
			t.Errorf("weir %s: status %d, stdout %q, stderr %q, want %q", command, status, out, err, want)
		}
	}
}
