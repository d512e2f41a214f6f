package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// tree makes a directory with a configuration and modules in it, and one beside
// it with what nobody may reach.
func tree(t *testing.T) (dir, outside string) {
	t.Helper()
	top := t.TempDir()
	dir, outside = filepath.Join(top, "in"), filepath.Join(top, "out")
	for path, text := range map[string]string{
		dir + "/gateway.toml": minimal, dir + "/plugins/p.wasm": "module", outside + "/secret.wasm": "secret", outside + "/gateway.toml": minimal,
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"inside.wasm": "plugins/p.wasm", "out.wasm": "../out/secret.wasm", "out": "../out", "around.wasm": "out/secret.wasm",
		"absolute.wasm": dir + "/plugins/p.wasm", "root": "/", "out.toml": "../out/gateway.toml",
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	return dir, outside
}

func within(t *testing.T, dir string) Files {
	t.Helper()
	f, err := Within(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Inside a confinement, files are read from its directory only, whatever the
// configuration names.
func TestConfinement(t *testing.T) {
	dir, outside := tree(t)
	files := within(t, dir)
	f := func(module, refusal string) {
		t.Helper()
		path := filepath.Join(dir, "gateway.toml")
		src := minimal + "[policy.p]\nmodule = \"" + module + "\"\n"
		if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		if cfg, err := (Files{}).Load(path); err != nil || len(cfg.Policies["p"].Bytes) != len("module") {
			t.Fatalf("without a confinement %s is refused: %v", module, err)
		}
		cfg, err := files.Load(path)
		switch {
		case refusal == "" && (err != nil || string(cfg.Policies["p"].Bytes) != "module" || cfg.Files != files):
			t.Errorf("%s: %v", module, err)
		case refusal != "" && (err == nil || !strings.Contains(err.Error(), refusal) || !strings.Contains(err.Error(), "policy.p.module") || !strings.Contains(err.Error(), dir)):
			t.Errorf("%s: %v", module, err)
		}
	}
	f("plugins/p.wasm", "")
	f("./plugins/../plugins/p.wasm", "")
	f(dir+"/plugins/p.wasm", "")
	f("inside.wasm", "")
	f("../out/secret.wasm", "is not in")
	f(outside+"/secret.wasm", "is not in")
	f("out.wasm", "symbolic link")
	f("out/secret.wasm", "symbolic link")
	f("around.wasm", "symbolic link")
	f("absolute.wasm", "symbolic link")
	f("root"+outside+"/secret.wasm", "symbolic link")

	for _, path := range []string{outside + "/gateway.toml", dir + "/out.toml", dir + "/../out/gateway.toml", dir + "/out/gateway.toml"} {
		if _, err := files.Load(path); err == nil || !strings.Contains(err.Error(), "--confine") {
			t.Errorf("%s: %v", path, err)
		}
		if files.Hold(path) != (path == dir+"/out.toml") {
			t.Errorf("%s is held: %v", path, files.Hold(path))
		}
	}
	for _, path := range []string{dir + "/later.wasm", dir + "/plugins/later.wasm", dir + "/later/and/later.wasm"} {
		if !files.Hold(path) || !(Files{}).Hold(path) {
			t.Errorf("%s is not held", path)
		}
	}
}

// The directory of a confinement is the operator's: it may be a link, switched
// while Weir runs.
func TestConfinementFollowsItsOwnDirectory(t *testing.T) {
	first, _ := tree(t)
	second, _ := tree(t)
	if err := os.WriteFile(second+"/gateway.toml", []byte(minimal+"[limits]\nmax_inbox = 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "current")
	for i, dir := range []string{first, second} {
		_ = os.Remove(link)
		if err := os.Symlink(dir, link); err != nil {
			t.Fatal(err)
		}
		cfg, err := within(t, link).Load(link + "/gateway.toml")
		if err != nil || (cfg.Limits.MaxInbox == 7) != (i == 1) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestConfinementNeedsADirectory(t *testing.T) {
	dir, _ := tree(t)
	for _, bad := range []string{"", dir + "/none", dir + "/gateway.toml"} {
		if f, err := Within(bad); err == nil {
			t.Errorf("%q: confined to %v", bad, f)
		}
	}
}

// A pipe put in the place of a file makes nobody wait.
func TestPipesAreRefused(t *testing.T) {
	dir, _ := tree(t)
	if err := syscall.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []Files{{}, within(t, dir)} {
		for _, path := range []string{dir + "/pipe", dir} {
			if b, err := f.Read(path); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
				t.Errorf("%s: %q, %v", path, b, err)
			}
		}
	}
}

func TestReadFileRefusesWhatIsTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(path, make([]byte, 11), 0o600); err != nil {
		t.Fatal(err)
	}
	var f Files
	if _, err := f.read(path, 10); err == nil {
		t.Error("11 bytes were read where 10 are allowed")
	}
	if b, err := f.read(path, 11); err != nil || len(b) != 11 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}
