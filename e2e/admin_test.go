//go:build e2e

package e2e

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestMetricsHaveTheirNames(t *testing.T) {
	t.Parallel()
	g := start(t, settings{policy: `droppable = ["presence"]`})
	c := dialGo(t, g.ws("/ws"), nil)
	writeGo(t, c, `{"type":"hello"}`)
	readGo(t, c)
	eventually(t, "both to be counted", func() bool { // what is counted is passed on first
		return g.metric(`weir_messages_total{direction="to_client"}`) == 1 && g.metric(`weir_messages_total{direction="to_upstream"}`) == 1
	})
	_, body := g.ask("GET", "/metrics")
	for _, name := range []string{
		"weir_connections{state=\"open\"} 1", "weir_connections{state=\"http\"} 0", "weir_connections{state=\"handshake\"} 0", "weir_connections{state=\"closing\"} 0",
		"weir_queue_bytes 0", `weir_messages_total{direction="to_upstream"} 1`, `weir_messages_total{direction="to_client"} 1`,
		`weir_messages_dropped_total{reason="shed"} 0`, `weir_faults_total{code="payload_too_large"} 0`, `weir_ws_closes_total{code="1000",initiator="client"} 0`,
		"weir_inflight 0", `weir_resume_total{result="`, `weir_upstream_reconnects_total{result="`, `weir_policy_calls_total{hook="classify",result="ok"} `,
		`weir_policy_call_duration_seconds_count{hook="classify"} `, `weir_policy_instances{policy="p"} `,
		"weir_config_last_reload_successful 1", "weir_config_last_reload_success_timestamp_seconds ", "weir_build_info{", "go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(string(body), "\n"+name) {
			t.Errorf("no %s", name)
		}
	}
	if n := g.metric(`weir_policy_calls_total{hook="classify",result="ok"}`) + g.metric(`weir_policy_calls_total{hook="classify",result="no_opinion"}`); n < 1 {
		t.Errorf("classify was asked %v times", n)
	}
}

func TestConnectionsAreListedAndClosed(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(nil)
	g := start(t, settings{urls: s.url})
	client, upstream := n.pair(g, s, nil)
	other, _ := n.pair(g, s, nil)
	client.send(`{"type":"chat","text":"x"}`)
	upstream.message()
	upstream.send(`{"type":"presence"}`)
	client.message()
	upstream.send("not JSON")
	client.message()
	eventually(t, "all to be counted", func() bool { ts := g.tunnels(); return len(ts) > 0 && ts[0].Messages == flow{1, 2} })
	ts := g.tunnels()
	if len(ts) != 2 {
		t.Fatalf("%+v", ts)
	}
	one := ts[0]
	if one.Route != "r" || one.Policy != "p" || one.State != "open" || one.Upstream != s.url || !strings.HasPrefix(one.Peer, "127.0.0.1:") || len(one.TraceID) != 32 || one.Age <= 0 {
		t.Errorf("%+v", one)
	}
	if one.Messages != (flow{1, 2}) || one.Bytes.ToUpstream < 26 || one.QueuedMessages != (flow{}) || one.Shed != (flow{}) {
		t.Errorf("%+v", one)
	}
	if !slices.Equal(one.EventKeys, []string{"chat", "presence"}) {
		t.Errorf("event keys %q", one.EventKeys)
	}
	if status, _ := g.ask("DELETE", "/connections/"+one.ID); status != 204 {
		t.Errorf("DELETE: %d", status)
	}
	for _, p := range []*peer{client, upstream} {
		if code, reason := p.closed(); code != 1001 || reason != "closed by the operator" {
			t.Errorf("closed with %d %q", code, reason)
		}
	}
	eventually(t, "it to be gone", func() bool { return len(g.tunnels()) == 1 })
	if status, _ := g.ask("DELETE", "/connections/"+one.ID); status != 404 {
		t.Errorf("DELETE once more: %d", status)
	}
	other.quiet()
	g.logs.wait("the close", "msg=closed", "tunnel="+one.ID, "code=1001", "initiator=weir", "trace_id="+one.TraceID,
		"messages_to_upstream=1", "messages_to_client=2")
	g.logs.wait("its upgrade", "msg=upgraded", "tunnel="+one.ID, "trace_id="+one.TraceID)
}

func TestPoliciesAreListed(t *testing.T) {
	t.Parallel()
	g := start(t, settings{policy: `droppable = ["x"]`})
	var policies []struct {
		Generation, Calls, Faults, Instances  int
		Name, Module, SHA256, Engine, Breaker string
		CachedRules                           int `json:"cached_rules"`
		MemoryBytes                           int `json:"memory_bytes"`
	}
	g.decode("/policies", &policies)
	if len(policies) != 1 {
		t.Fatalf("%+v", policies)
	}
	p := policies[0]
	if p.Generation != 1 || p.Name != "p" || p.Module != standard || len(p.SHA256) != 64 || p.Engine != "interpreter" || p.Breaker != "closed" ||
		p.Calls < 1 || p.Faults != 0 || p.Instances < 1 || p.CachedRules < 1 || p.MemoryBytes < 1<<16 {
		t.Errorf("%+v", p)
	}
}

func TestProbes(t *testing.T) {
	t.Parallel()
	g := start(t, settings{admin: `token = "s3cret"`})
	for _, path := range []string{"/livez", "/readyz"} {
		if status, _ := g.ask("GET", path); status != 200 {
			t.Errorf("%s: %d", path, status)
		}
	}
}

func TestTheAdminTokenIsNeeded(t *testing.T) {
	t.Parallel()
	g := start(t, settings{admin: `token = "s3cret"`})
	for _, token := range []string{"", "s3cre", "s3cret2", "S3CRET"} {
		g.token = token
		for _, path := range []string{"/metrics", "/connections", "/policies", "/upstreams", "/"} {
			if status, body := g.ask("GET", path); status != 401 {
				t.Errorf("%s with %q: %d %s", path, token, status, body)
			}
		}
		if status, _ := g.ask("POST", "/reload"); status != 401 {
			t.Errorf("/reload with %q: %d", token, status)
		}
	}
	g.token = "s3cret"
	if status, _ := g.ask("GET", "/connections"); status != 200 {
		t.Errorf("with the token: %d", status)
	}
	if status, out, err := command(t, "reload", "-c", g.config); status != 0 || !strings.Contains(out, "generation 1") {
		t.Errorf("weir reload: %d, %q, %q", status, out, err)
	}
	if strings.Contains(g.logs.String(), "s3cret") {
		t.Error("the token is in the log")
	}
}

// A page from elsewhere can have a browser send requests to a loopback address.
func TestPagesFromElsewhereAreKeptOut(t *testing.T) {
	t.Parallel()
	g := start(t, settings{})
	f := func(method, path, host, origin string, want int) {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+g.admin+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			req.Host = host
		}
		if origin != "" {
			req.Header.Set("Origin", origin)
			req.Header.Set("Sec-Fetch-Site", "cross-site")
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, _ := io.ReadAll(resp.Body); resp.StatusCode != want {
			t.Errorf("%s %s host %q origin %q: %s %s", method, path, host, origin, resp.Status, body)
		}
	}
	f("GET", "/connections", "", "", 200)
	f("GET", "/connections", "localhost:9090", "", 200)
	f("GET", "/connections", "rebound.example", "", 403)
	f("POST", "/reload", "", "https://evil.example", 403)
	f("POST", "/reload", "", "", 200)
	f("PUT", "/reload", "", "", 405)
	f("GET", "/nothing", "", "", 404)
}

func TestUpstreamsAreListed(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(args{"echo": true})
	g := start(t, settings{urls: s.url})
	n.dial(g.ws("/"), nil)
	var upstreams []struct {
		Name    string
		Targets []struct {
			URL     string
			Healthy bool
			Idle    int
			InUse   int `json:"in_use"`
		}
	}
	g.decode("/upstreams", &upstreams)
	if len(upstreams) != 1 || upstreams[0].Name != "u" || len(upstreams[0].Targets) != 1 {
		t.Fatalf("%+v", upstreams)
	}
	if got := upstreams[0].Targets[0]; got.URL != s.url || !got.Healthy || got.InUse != 1 {
		t.Errorf("%+v", got)
	}
}
