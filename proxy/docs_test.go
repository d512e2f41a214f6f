package proxy_test

import (
	"go/ast"
	"io/fs"
	"os"
	"path"
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
	alike(t, required, explained, "%s is not explained", "%s is explained, and go.mod has none")
}

// alike holds that two sets have the same members, and says of each that only
// one has what that means.
func alike(t *testing.T, a, b map[string]bool, onlyA, onlyB string) {
	t.Helper()
	for m := range a {
		if !b[m] {
			t.Errorf(onlyA, m)
		}
	}
	for m := range b {
		if !a[m] {
			t.Errorf(onlyB, m)
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

// What the code says that RATIONALE.md explains is a heading there, and what
// walks.md goes through is declared.
func TestDocsAndCodeNameEachOther(t *testing.T) {
	rationale, err := os.ReadFile("../docs/RATIONALE.md")
	if err != nil {
		t.Fatal(err)
	}
	walks, err := os.ReadFile("../docs/walks.md")
	if err != nil {
		t.Fatal(err)
	}
	refers := regexp.MustCompile(`docs/RATIONALE\.md,\s+"([^"]+)"`)
	declared, referred := map[string]bool{}, 0
	for _, s := range sources(t, "hostabi", "proxy") {
		for _, group := range s.file.Comments {
			for _, m := range refers.FindAllStringSubmatch(group.Text(), -1) {
				referred++
				if heading := strings.Join(strings.Fields(m[1]), " "); !strings.Contains(string(rationale), "\n### "+heading+"\n") {
					t.Errorf("%s/%s: RATIONALE.md has no heading %q", s.pkg, s.name, heading)
				}
			}
		}
		declare := func(names ...string) {
			whole := strings.Join(append([]string{path.Base(s.pkg)}, names...), ".")
			for declared[whole] = true; strings.Contains(whole, "."); declared[whole] = true {
				_, whole, _ = strings.Cut(whole, ".")
			}
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				declare(append(receiver(d), d.Name.Name)...)
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if spec, ok := spec.(*ast.TypeSpec); ok {
						declare(spec.Name.Name)
					}
				}
			}
		}
	}
	named := regexp.MustCompile("`((?:[A-Za-z0-9]+\\.)*[A-Za-z0-9]+)`").FindAllSubmatch(walks, -1)
	for _, m := range named {
		if name := string(m[1]); !declared[name] && name != "package.Type.Function" {
			t.Errorf("walks.md names %s, which is not declared", m[0])
		}
	}
	if referred < 3 || len(named) < 50 {
		t.Fatalf("%d headings are named, and %d functions", referred, len(named))
	}
}

// receiver is the name of the type that d is a method of; empty: of none.
func receiver(d *ast.FuncDecl) (name []string) {
	if d.Recv == nil {
		return nil
	}
	ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && name == nil {
			name = []string{id.Name}
		}
		return name == nil
	})
	return name
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
	alike(t, targets, corpora, "%s has no seeds in testdata/fuzz", "%s has seeds and is no target")
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
