package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// futureModule exports what a policy must, and an ABI of major version 2.
var futureModule = []byte("\x00asm\x01\x00\x00\x00" +
	"\x01\x0b\x02\x60\x00\x01\x7f\x60\x02\x7f\x7f\x01\x7f" + // () -> i32; (i32, i32) -> i32
	"\x03\x03\x02\x00\x01" +
	"\x05\x03\x01\x00\x01" + // one page
	"\x07\x23\x03\x06memory\x02\x00\x08weir_abi\x00\x00\x0bweir_buffer\x00\x01" +
	"\x0a\x0e\x02\x06\x00\x41\x80\x80\x08\x0b\x05\x00\x41\x80\x08\x0b") // 2<<16; 1024

// samples are the files of config's testdata whose names match, and what they hold.
func samples(t *testing.T, pattern string) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../config/testdata/" + pattern)
	if err != nil || len(files) == 0 {
		t.Fatal("no files:", err)
	}
	all := map[string]string{}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[file] = string(src)
	}
	return all
}

func TestValidateAccepts(t *testing.T) {
	path := write(t, "gateway.toml", minimal)
	status, out, err := weir(t, "validate", "-c", path)
	if want := path + ": ok: 1 route, 1 upstream, 0 policies\n"; status != exitOK || out != want || err != "" {
		t.Errorf("status %d, stdout %q, stderr %q", status, out, err)
	}
}

// What config refuses, validate and run refuse with the same words. Beside that
// they say that module.wasm, which some of the files name, is none.
func TestWhatConfigRefusesIsRefused(t *testing.T) {
	for file, src := range samples(t, "*.bad.toml") {
		problems := strings.Count(src, "# want: ")
		for _, command := range []string{"validate", "run"} {
			status, out, stderr := weir(t, command, "--config", file)
			n := strings.Count(stderr, file+":") - strings.Count(stderr, "is not a WebAssembly module")
			if status != exitFailure || out != "" || n != problems {
				t.Errorf("weir %s: %s: status %d, stdout %q, %d of %d problems:\n%s", command, file, status, out, n, problems, stderr)
			}
		}
	}
}

func TestMissingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.toml")
	for _, command := range []string{"validate", "run", "reload"} {
		status, _, err := weir(t, command, "-c", path)
		if status != exitFailure || !strings.Contains(err, path) {
			t.Errorf("weir %s: status %d, stderr %q", command, status, err)
		}
	}
}

// Files NAME.policy.toml are well-formed and name future.wasm; loading that
// policy gives their "# want: " line.
func TestValidateProbesPolicies(t *testing.T) {
	for file, src := range samples(t, "*.policy.toml") {
		path := write(t, "gateway.toml", src)
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), "future.wasm"), futureModule, 0o600); err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(src, "\n")
		want := path + ":" + strings.TrimPrefix(first, "# want: ") + "\n"
		if status, out, stderr := weir(t, "validate", "-c", path); status != exitFailure || out != "" || stderr != want {
			t.Errorf("%s: status %d, stdout %q, stderr\n%swant\n%s", file, status, out, stderr, want)
		}
	}
}

// A mistake in the configuration hides none in a policy.
func TestValidateReportsBothKindsAtOnce(t *testing.T) {
	path := write(t, "gateway.toml", "[limits]\nmax_inbox = 0\n"+minimal+"[policy.p]\nmodule = \"future.wasm\"\n")
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "future.wasm"), futureModule, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, stderr := weir(t, "validate", "-c", path)
	if !strings.Contains(stderr, "limits.max_inbox") || !strings.Contains(stderr, "policy.p.module") {
		t.Error(stderr)
	}
}

// What a module has for names forges no line, and does nothing to a terminal.
func TestNamesInAModuleStayInTheirLine(t *testing.T) {
	path := write(t, "gateway.toml", minimal+"[policy.p]\nmodule = \"forged.wasm\"\n")
	module := "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00" + // () -> ()
		"\x02\x14\x01\x03env\x0c\na: ok\x1b[J\u202e\x00\x00" // one import, which ends with an override of direction
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "forged.wasm"), []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, stderr := weir(t, "validate", "-c", path)
	if !strings.Contains(stderr, "import env. a: ok [J  is not allowed") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("%q", stderr)
	}
}
