//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// ws and http are URLs on the public listener.
func (g *gateway) ws(path string) string   { return "ws://" + g.addr + path }
func (g *gateway) http(path string) string { return "http://" + g.addr + path }

// client is Go's, without connections that outlive a request.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * patience}

// answer is what a request got, the body read.
type answer struct {
	*http.Response
	body string
}

// do sends a request; token may be empty.
func (g *gateway) do(method, url, token string) answer {
	g.t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return answer{resp, string(body)}
}

// get asks the public listener.
func (g *gateway) get(path string) answer {
	g.t.Helper()
	return g.do("GET", g.http(path), "")
}

// ask asks the admin listener, and returns status and body.
func (g *gateway) ask(method, path string) (int, []byte) {
	g.t.Helper()
	a := g.do(method, "http://"+g.admin+path, g.token)
	return a.StatusCode, []byte(a.body)
}

// decode reads the JSON of an admin endpoint.
func (g *gateway) decode(path string, v any) {
	g.t.Helper()
	status, body := g.ask("GET", path)
	if err := json.Unmarshal(body, v); err != nil || status != 200 {
		g.t.Fatalf("GET %s: %d, %v: %s", path, status, err, body)
	}
}

// tunnel is one element of GET /connections.
type tunnel struct {
	ID, Route, Policy, Peer, Upstream, State string
	LimitClass                               string  `json:"limit_class"`
	TraceID                                  string  `json:"trace_id"`
	Age                                      float64 `json:"age_seconds"`
	Messages, Bytes, Shed                    flow
	QueuedMessages                           flow     `json:"queued_messages"`
	QueuedBytes                              flow     `json:"queued_bytes"`
	EventKeys                                []string `json:"event_keys"`
}

type flow struct {
	ToUpstream int64 `json:"to_upstream"`
	ToClient   int64 `json:"to_client"`
}

// tunnels are those that GET /connections lists.
func (g *gateway) tunnels() (all []tunnel) {
	g.t.Helper()
	g.decode("/connections", &all)
	return all
}

// metric is the value of a series as /metrics writes it, 0 when it is not
// there.
func (g *gateway) metric(series string) float64 {
	g.t.Helper()
	return g.metrics()[series]
}

// metrics are all series that /metrics shows.
func (g *gateway) metrics() map[string]float64 {
	g.t.Helper()
	status, body := g.ask("GET", "/metrics")
	if status != 200 {
		g.t.Fatalf("GET /metrics: %d", status)
	}
	m := map[string]float64{}
	for text := range strings.Lines(string(body)) {
		if i := strings.LastIndexByte(text, ' '); i > 0 && text[0] != '#' {
			n, err := strconv.ParseFloat(strings.TrimSpace(text[i:]), 64)
			if err != nil {
				g.t.Fatalf("%q: %v", text, err)
			}
			m[text[:i]] = n
		}
	}
	return m
}

// generation is the number of the configuration that runs.
func (g *gateway) generation() (n int) {
	g.t.Helper()
	var policies []struct{ Generation int }
	g.decode("/policies", &policies)
	if len(policies) == 0 {
		g.t.Fatal("no policy, no generation")
	}
	return policies[0].Generation
}

// resident is Weir's memory as the kernel counts it, in bytes.
func (g *gateway) resident() int64 {
	g.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		g.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		g.t.Fatal(err)
	}
	return kb << 10
}

// goroutines is how many Weir has, but for the stacks that it keeps for tasks to
// come, of which there is a bounded number (poll).
func (g *gateway) goroutines() (n int) {
	_, body := g.ask("GET", "/debug/pprof/goroutine?debug=1")
	head, records, _ := strings.Cut(string(body), "\n")
	_, _ = fmt.Sscanf(head, "goroutine profile: total %d", &n)
	for record := range strings.SplitSeq(records, "\n\n") {
		ours := 0
		for frame := range strings.Lines(record) {
			if strings.Contains(frame, "weir/proxy/") {
				ours++
			}
		}
		if idle := 0; ours == 1 && strings.Contains(record, "weir/proxy/poll.newStack") {
			_, _ = fmt.Sscan(record, &idle)
			n -= idle
		}
	}
	return n
}

// files is how many descriptors Weir has open.
func (g *gateway) files() int {
	g.t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.cmd.Process.Pid))
	if err != nil {
		g.t.Fatal(err)
	}
	return len(all)
}
