// Package proxy_test holds what no package can hold about itself: the
// direction of imports, and that leaves are pure.
package proxy_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// layer is where each package of Weir stands: it imports only from layers
// below its own. A new package is entered here.
var layer = map[string]int{
	"hostabi":               0,
	"hostabi/wasmhost/wasm": 0,
	"proxy/crash":           0,
	"proxy/fd":              0,
	"proxy/mem":             0,
	"proxy/poll":            0,

	"hostabi/wasmhost/rewrite": 1,
	"proxy/config":             1,
	"proxy/demo":               1,
	"proxy/faultlog":           1,
	"proxy/flow":               1,
	"proxy/http1":              1,
	"proxy/jsonpeek":           1,
	"proxy/metrics":            1,
	"proxy/sock":               1,
	"proxy/stream/framed":      1,
	"proxy/wsframe":            1,

	"hostabi/wasmhost": 2,
	"proxy/admin":      2,
	"proxy/upstream":   2,

	"proxy/policy": 3,

	"proxy/relay":  4,
	"proxy/stream": 4,

	"proxy/gateway": 5,

	"proxy/cmd/weir": 6,

	// What tests alone import stands above all that they test, so that nothing
	// which is no test can import it.
	"hostabi/conformance":       7,
	"hostabi/wasmhost/wasmtest": 7,
	"proxy/leak":                7,
	"proxy/nettest":             7,
	"proxy/policy/policytest":   7,
}

// leaves have no I/O, no goroutine and no clock. config reads the files it is
// given in files.go, and nowhere else.
var leaves = map[string]string{
	"hostabi":                  "",
	"hostabi/wasmhost/rewrite": "",
	"hostabi/wasmhost/wasm":    "",
	"proxy/config":             "files.go",
	"proxy/crash":              "",
	"proxy/flow":               "",
	"proxy/jsonpeek":           "",
	"proxy/stream/framed":      "",
	"proxy/wsframe":            "",
}

// impure are the packages through which I/O is done.
var impure = []string{"os", "os/exec", "os/signal", "net/http", "syscall", "log", "log/slog"}

// clocks are the functions of package time that read or wait for the clock.
var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}

const module = "weir/"

// source is one file that is not a test.
type source struct {
	pkg, name string // "proxy/config", "load.go"
	file      *ast.File
	fset      *token.FileSet
}

// sources parses the files under the given folders of the repository.
func sources(t *testing.T, folders ...string) (all []source) {
	t.Helper()
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join("..", folder), func(p string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if e.IsDir() && (e.Name() == "testdata" || e.Name() == "node_modules") {
				return filepath.SkipDir
			}
			if e.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
				return nil
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, p, nil, parser.ParseComments|parser.SkipObjectResolution)
			pkg, _ := filepath.Rel("..", filepath.Dir(p))
			all = append(all, source{filepath.ToSlash(pkg), e.Name(), f, fset})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// imports yields the paths that s imports.
func (s source) imports(yield func(imported, at string)) {
	for _, spec := range s.file.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		yield(imported, s.fset.Position(spec.Pos()).String())
	}
}

func TestImportsPointOneWay(t *testing.T) {
	for _, s := range sources(t, "hostabi", "proxy") {
		own, ok := layer[s.pkg]
		if !ok {
			t.Errorf("%s/%s: package %s has no layer; enter it in proxy/imports_test.go", s.pkg, s.name, s.pkg)
			continue
		}
		s.imports(func(imported, at string) {
			pkg, ours := strings.CutPrefix(imported, module)
			if !ours {
				return
			}
			if l, ok := layer[pkg]; !ok || l >= own {
				t.Errorf("%s: %s (layer %d) imports %s (layer %s)", at, s.pkg, own, pkg, layerName(pkg))
			}
		})
	}
}

func layerName(pkg string) string {
	if l, ok := layer[pkg]; ok {
		return fmt.Sprint(l)
	}
	return "none: it is not part of the data plane"
}

// Policies are built against the contract and the SDK, never against the host.
func TestImportsOfPolicies(t *testing.T) {
	for _, s := range sources(t, "plugins") {
		s.imports(func(imported, at string) {
			if pkg, ours := strings.CutPrefix(imported, module); ours && pkg != "hostabi" && !strings.HasPrefix(pkg, "plugins/") {
				t.Errorf("%s: a policy imports %s", at, pkg)
			}
		})
	}
}

// Guests compile hostabi into themselves, so it stays small.
func TestImportsOfTheContract(t *testing.T) {
	for _, s := range sources(t, "hostabi") {
		if s.pkg != "hostabi" {
			continue
		}
		s.imports(func(imported, at string) {
			if allowed := []string{"encoding/binary", "errors", "strconv", "unsafe"}; !slices.Contains(allowed, imported) {
				t.Errorf("%s: hostabi imports %s; allowed: %v", at, imported, allowed)
			}
		})
	}
}

func TestImportsOfLeavesArePure(t *testing.T) {
	unseen := maps.Clone(leaves)
	for _, s := range sources(t, "hostabi", "proxy") {
		exempt, leaf := leaves[s.pkg]
		if !leaf || s.name == exempt {
			continue
		}
		delete(unseen, s.pkg)
		s.imports(func(imported, at string) {
			if slices.Contains(impure, imported) {
				t.Errorf("%s: leaf %s imports %s", at, s.pkg, imported)
			}
		})
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s: leaf %s starts a goroutine", s.fset.Position(n.Pos()), s.pkg)
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clocks, n.Sel.Name) {
					t.Errorf("%s: leaf %s uses the clock: time.%s", s.fset.Position(n.Pos()), s.pkg, n.Sel.Name)
				}
			}
			return true
		})
	}
	for pkg := range unseen {
		t.Errorf("leaf %s has no sources; was it renamed?", pkg)
	}
}
