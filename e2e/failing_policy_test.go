//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A guest that traps or loops is replaced, its hook falls back, everything else
// goes on, and metric and log say which policy and hook it was.
func TestAPolicyThatFails(t *testing.T) {
	t.Parallel()
	for _, how := range []struct {
		name    string
		results []string
	}{
		// What a Go guest has to say about a panic may take it too long.
		{"trap", []string{"trap", "timeout"}},
		{"loop", []string{"timeout"}},
	} {
		g, _ := reloadable(t, 100)
		c := dialGo(t, g.ws("/ws"), nil)
		other := dialGo(t, g.ws("/ws"), nil)
		text := fmt.Sprintf(`{"type":%q}`, how.name)
		writeGo(t, c, text)
		if got := readGo(t, c); got != text {
			t.Errorf("%s: a message whose kind cannot be asked for is critical, got %q", how.name, got)
		}
		line := g.logs.wait("the failed call", "msg=policy hook failed*", "policy=p", "hook=classify")
		result, _ := line["result"].(string)
		if !slices.Contains(how.results, result) {
			t.Errorf("%s: logged %v", how.name, line)
		}
		if says, _ := line["error"].(string); result == "timeout" && !busy(says) {
			t.Errorf("%s: nothing takes %q for a lack of time", how.name, says)
		}
		if n := g.metric(fmt.Sprintf(`weir_policy_calls_total{hook="classify",result=%q}`, result)); n < 1 {
			t.Errorf("%s: counted %v", how.name, n)
		}
		if !passes(t, other, 100) || passes(t, other, 101) {
			t.Errorf("%s: the rule of another kind is gone", how.name)
		}
		// Closed unless configured open: nobody is admitted by a policy that failed.
		a := g.get("/status/200?" + how.name)
		if p := decodeProblem(t, a.body); a.StatusCode != 503 || p.Code != "policy_failed" || !p.Retryable {
			t.Errorf("%s: admit: %s %s", how.name, a.Status, a.body)
		}
		eventually(t, "admit to be asked again", func() bool { return g.get("/status/200").StatusCode == 200 })
		if n := g.metric(`weir_faults_total{code="policy_failed"}`); n < 1 {
			t.Errorf("%s: counted %v faults", how.name, n)
		}
		var policies []struct {
			Faults, Instances int
			Breaker           string
		}
		eventually(t, "instances to be replaced", func() bool {
			g.decode("/policies", &policies)
			return policies[0].Faults >= 2 && policies[0].Instances >= 1 && policies[0].Breaker == "closed"
		})
	}
}

func TestAPolicyThatFailsOpen(t *testing.T) {
	t.Parallel()
	module := filepath.Join(t.TempDir(), "p.wasm")
	if err := os.WriteFile(module, guest(t, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	s := settings{module: module, rest: "[[route]]\nname = \"open\"\npath = \"/status\"\nupstream = \"u\"\npolicy = \"open\"\n\n[policy.open]\nmodule = \"" +
		module + "\"\non_fault = \"open\"\nengine = \"compiler\"\n"}
	g := start(t, s)
	if a := g.get("/status/200?trap"); a.StatusCode != 200 {
		t.Errorf("%s", a.Status)
	}
	if a := g.get("/echo?trap"); a.StatusCode != 503 {
		t.Errorf("%s", a.Status)
	}
}
