package admin

import (
	"go/ast"
	"go/parser"
	"go/token"
	"testing"
)

// The token is compared in constant time and nowhere else: whatever reads it is
// handed to crypto/subtle, which looks at all of it. That takes no time to
// measure and none to flake: it is read off the source.
func TestTheTokenIsComparedInConstantTime(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "guard.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	isToken := func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		return ok && s.Sel.Name == "token"
	}
	reads, constant := 0, 0
	ast.Inspect(file, func(n ast.Node) bool {
		if isToken(n) {
			reads++
		}
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if f, ok := call.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "ConstantTimeCompare" {
			for _, arg := range call.Args {
				ast.Inspect(arg, func(n ast.Node) bool {
					if isToken(n) {
						constant++
					}
					return true
				})
			}
		}
		return true
	})
	if reads != 1 || constant != 1 {
		t.Errorf("the token is read %d times, %d of them in a constant-time comparison", reads, constant)
	}
}
