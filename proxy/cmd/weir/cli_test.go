package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// weir runs one command line as main does.
func weir(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	status = execute(args, cli{out: &out, err: &err, version: "v1.2.3"})
	return status, out.String(), err.String()
}

// write puts a file into a fresh folder and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// minimal is the least that is accepted.
const minimal = "[[route]]\nupstream = \"demo\"\n[upstream.demo]\nurls = [\"demo:\"]\n"

func TestUsageErrors(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		status, out, err := weir(t, args...)
		if status != exitUsage || out != "" || !strings.Contains(err, want) || !strings.Contains(err, "--help") {
			t.Errorf("weir %v: status %d, stdout %q, stderr %q", args, status, out, err)
		}
	}
	f("start", "start")
	f("--nope", "--nope")
	f("--nope", "run", "--nope")
	f("extra", "validate", "extra")
	f("extra", "reload", "extra")
	f("extra", "version", "extra")
	f("log-level", "run", "--log-level", "loud")
	f("debug, info, warn or error", "run", "--log-level", "loud")
	f("-c", "run", "-c")
	f("--config: no file is named", "run", "-c", "")
	f("--config: no file is named", "validate", "--config=")
	f(`unknown command "start"`, "help", "start")
	f(`unknown command "now" for "weir run"`, "help", "run", "now")
}

func TestHelpTeaches(t *testing.T) {
	f := func(args string, wants ...string) {
		t.Helper()
		status, out, err := weir(t, strings.Fields(args)...)
		if status != exitOK || err != "" {
			t.Errorf("weir %s: status %d, stderr %q", args, status, err)
		}
		for _, want := range append(wants, "Usage:", "Examples:", "-c, --config file", "--confine directory") {
			if !strings.Contains(out, want) {
				t.Errorf("weir %s: no %q in\n%s", args, want, out)
			}
		}
	}
	f("--help", "run", "validate", "reload", "version")
	f("help run", "SIGTERM", "SIGHUP", "Exit status", "--log-level")
	f("run --help", "SIGTERM", "SIGHUP", "Exit status", "--log-level", "(default info)")
	f("validate --help", "FILE:LINE: KEY:", "Exit status")
	f("reload --help", "admin listener", "Exit status")
	f("version --help", "abi")
}

func TestWithoutACommandHelpIsShown(t *testing.T) {
	status, out, _ := weir(t)
	if status != exitOK || !strings.Contains(out, "weir validate") {
		t.Errorf("status %d, %q", status, out)
	}
}

func TestVersion(t *testing.T) {
	for _, named := range []string{"version", "--version"} {
		status, out, _ := weir(t, named, "-c", "/nowhere")
		lines := strings.Split(out, "\n")
		if status != exitOK || len(lines) != 4 || lines[0] != "weir v1.2.3" || !strings.HasPrefix(lines[1], "go   go1.") || lines[2] != "abi  1.0" {
			t.Errorf("weir %s: status %d, %q", named, status, out)
		}
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestWhatCannotBeWrittenIsNoUsageError(t *testing.T) {
	path := write(t, "gateway.toml", minimal)
	f := func(named string, args ...string) {
		t.Helper()
		var problems bytes.Buffer
		status := execute(args, cli{out: full{}, err: &problems})
		if status != exitFailure || problems.String() != named+": no space left\n" {
			t.Errorf("weir %v: status %d, %q", args, status, problems.String())
		}
	}
	f("weir version", "version", "-c", path)
	f("weir validate", "validate", "-c", path)
	f("weir")
	f("weir", "--help")
	f("weir", "--version")
	f("weir run", "run", "--help")
	f("weir help", "help", "run")
}
