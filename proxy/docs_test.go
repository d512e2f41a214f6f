package proxy_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs/dependencies.md names every module that go.mod has, and no other.
func TestEveryDependencyIsExplained(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	required, explained := map[string]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) v\S+`).FindAllSubmatch(mod, -1) {
		required[string(m[1])] = true
	}
	for line := range strings.Lines(string(doc)) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, m := range regexp.MustCompile("`([a-z]+\\.[^`]+/[^`]+)`").FindAllStringSubmatch(cells[1], -1) {
				explained[m[1]] = true
			}
		}
	}
	if len(required) < 10 {
		t.Fatalf("go.mod has %d modules", len(required))
	}
	for m := range required {
		if !explained[m] {
			t.Errorf("%s is not explained", m)
		}
	}
	for m := range explained {
		if !required[m] {
			t.Errorf("%s is explained, and go.mod has none", m)
		}
	}
}

// Every test that docs/security.md names exists.
func TestTheThreatModelNamesRealTests(t *testing.T) {
	doc, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	have := declaredTests(t)
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllSubmatch(doc, -1)
	if len(named) < 50 {
		t.Fatalf("%d tests are named", len(named))
	}
	for _, m := range named {
		if !have[string(m[1])] {
			t.Errorf("%s is not a test", m[1])
		}
	}
}

// Every fuzz target has seeds checked in beside it, and no seeds are of a target
// that is gone. tools/fuzz.sh finds the targets by the same folders.
func TestFuzzTargetsHaveCorpora(t *testing.T) {
	targets, corpora := map[string]bool{}, map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	for _, folder := range []string{"hostabi", "plugins", "proxy"} {
		err := filepath.WalkDir(filepath.Join("..", folder), func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
			case d.IsDir() && strings.HasPrefix(d.Name(), "Fuzz"):
				corpora[filepath.Join(filepath.Dir(path), "../..", d.Name())] = true
			case strings.HasSuffix(path, "_test.go"):
				var src []byte
				src, err = os.ReadFile(path)
				for _, m := range declared.FindAllSubmatch(src, -1) {
					targets[filepath.Join(filepath.Dir(path), string(m[1]))] = true
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(targets) < 30 {
		t.Errorf("%d targets", len(targets))
	}
	for target := range targets {
		if !corpora[target] {
			t.Errorf("%s has no seeds in testdata/fuzz", target)
		}
	}
	for corpus := range corpora {
		if !targets[corpus] {
			t.Errorf("%s has seeds and is no target", corpus)
		}
	}
}

// declaredTests are the names of all tests and fuzz targets.
func declaredTests(t *testing.T) map[string]bool {
	t.Helper()
	have := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, "_test.go") {
			var src []byte
			if src, err = os.ReadFile(path); err == nil {
				for _, m := range declared.FindAllSubmatch(src, -1) {
					have[string(m[1])] = true
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return have
}
