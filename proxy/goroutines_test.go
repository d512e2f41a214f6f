package proxy_test

import (
	"go/ast"
	"maps"
	"slices"
	"testing"
)

// goroutines are all that Weir starts, timers included, by the function that
// starts them, each with the test that injects a panic into it; or why there is
// nothing in it that could.
var goroutines = map[string]string{
	"proxy/gateway Run":             "listens and hands on: serveConn; follows files: TestAPanicInAReloadKeepsWhatRuns",
	"proxy/gateway accept":          "TestAPanicInARequestEndsItsConnection",
	"proxy/gateway reload":          "TestServicesSurviveAPanic",
	"proxy/admin Start":             "net/http's, which recovers for each request; TestServicesSurviveAPanic",
	"proxy/cmd/weir run":            "Gateway.Run itself, and reloads: TestAPanicInAReloadKeepsWhatRuns",
	"proxy/cmd/weir newAsync":       "hands bytes to stdout or stderr",
	"proxy/http1 Watch":             "TestPanicsBesideTheHandler",
	"proxy/upstream startSender":    "TestAPanicInABodyEndsItsExchange",
	"proxy/upstream Watch":          "TestAPanicInAHealthCheckIsAFailure",
	"proxy/upstream untilClosed":    "waits for two channels and cancels, contained",
	"proxy/upstream check":          "cancels an exchange, which closes a connection",
	"proxy/upstream put":            "closes idle connections, contained",
	"proxy/poll New":                "TestAPanicEndsOneHandlersTurn",
	"proxy/poll leave":              "TestAPanicEndsOneHandlersTurn",
	"proxy/poll carry":              "TestAPanicOfALightTaskIsItsOwn",
	"proxy/sock Close":              "TestAPanicInARequestEndsItsConnection",
	"proxy/sock dialAny":            "has package net connect",
	"proxy/sock join":               "has package net look a name up",
	"proxy/sock ask":                "has package net look a name up",
	"proxy/sock deadline":           "sets a flag",
	"proxy/relay Run":               "TestPanic",
	"proxy/relay serve":             "TestAPanicAnywhereEndsTheTunnelAndLeavesNothing",
	"proxy/relay interrupt":         "TestAPanicAnywhereEndsTheTunnelAndLeavesNothing",
	"proxy/relay oneLess":           "TestAPanicAnywhereEndsTheTunnelAndLeavesNothing",
	"proxy/relay write":             "TestPanic",
	"proxy/relay armGrace":          "TestAPanicAnywhereEndsTheTunnelAndLeavesNothing",
	"proxy/relay finish":            "TestAPanicAnywhereEndsTheTunnelAndLeavesNothing",
	"proxy/relay finishLeg":         "TestAPanicAnywhereEndsTheTunnelAndLeavesNothing",
	"proxy/relay waitWriter":        "sets a flag and wakes",
	"proxy/relay after":             "TestAPanicAnywhereEndsTheTunnelAndLeavesNothing",
	"proxy/faultlog tellLater":      "writes a line, contained",
	"proxy/relay armWatch":          "TestAPanicAnywhereEndsTheTunnelAndLeavesNothing",
	"proxy/demo serveOn":            "accepts and hands on: serve",
	"proxy/policy beside":           "TestAPanicBesideIsContained",
	"proxy/demo accept":             "TestPanicsEndTheirConnection",
	"proxy/demo start":              "TestPanicsEndTheirConnection",
	"proxy/nettest Serve":           "is of tests",
	"hostabi/wasmhost refill":       "TestAPanicInTheHostIsAFault",
	"hostabi/wasmhost completed":    "adds code to a module, contained",
	"hostabi/wasmhost trimLater":    "has the runtime give memory back",
	"hostabi/wasmhost inBackground": "hands a panic on: TestAPanicInTheBackgroundIsHandedOn",
	"hostabi/wasmhost tellLater":    "writes a line, contained",
	"hostabi/wasmhost outgrown":     "TestAPanicInTheHostIsAFault",
}

// Every goroutine that Weir starts is entered above: whoever adds one says what
// becomes of a panic in it.
func TestEveryGoroutineHasAGuard(t *testing.T) {
	started := map[string]string{}
	for _, s := range sources(t, "hostabi", "proxy") {
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if starts(n) {
					started[s.pkg+" "+f.Name.Name] = s.fset.Position(n.Pos()).String()
				}
				return true
			})
		}
	}
	for _, where := range slices.Sorted(maps.Keys(started)) {
		if goroutines[where] == "" {
			t.Errorf("%s: %q starts a goroutine; enter in proxy/goroutines_test.go what becomes of a panic in it", started[where], where)
		}
	}
	tests := declaredTests(t)
	for where, test := range goroutines {
		if started[where] == "" {
			t.Errorf("%q starts no goroutine any more", where)
		}
		if len(test) > 4 && test[:4] == "Test" && !tests[test] {
			t.Errorf("%s: %s is not a test", where, test)
		}
	}
}

// starts reports whether n is a go statement, WaitGroup.Go or time.AfterFunc.
func starts(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GoStmt:
		return true
	case *ast.CallExpr:
		if s, ok := n.Fun.(*ast.SelectorExpr); ok {
			return s.Sel.Name == "Go" || s.Sel.Name == "AfterFunc"
		}
	}
	return false
}
