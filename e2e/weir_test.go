//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// gateway is one running Weir.
type gateway struct {
	t           *testing.T
	cmd         *exec.Cmd
	addr, admin string // host:port
	config      string // path of its gateway.toml
	token       string // for the admin listener
	settings    settings
	logs        *logs
	stdout      *output
	exited      chan struct{} // closed when the process is gone and its logs are read
	stopped     bool
}

// start runs Weir with a gateway.toml of s and waits until it is ready. When
// the test ends, Weir is drained and must exit 0.
func start(t *testing.T, s settings) *gateway {
	t.Helper()
	g := &gateway{t: t, addr: freeAddr(t), admin: freeAddr(t), settings: s}
	g.config = write(t, "gateway.toml", s.toml(g.addr, g.admin))
	g.run(s.env...)
	return g
}

// run starts the process on g.config. A policy has half a second to begin; on a
// machine that is too busy for that, Weir is started again.
func (g *gateway) run(env ...string) {
	g.t.Helper()
	for range 5 {
		g.launch(env...)
		if g.ready() {
			return
		}
	}
	g.t.Fatalf("weir does not start:\n%s", g.logs)
}

// ready waits until Weir serves; false: a policy took too long to begin.
func (g *gateway) ready() bool {
	g.t.Helper()
	late := false
	eventually(g.t, "weir to be ready", func() bool {
		if ready := g.logs.all("msg=ready"); len(ready) > 0 {
			if ready[0]["listen"] != g.addr {
				g.t.Errorf("ready on %v, want %s", ready[0]["listen"], g.addr)
			}
			return true
		}
		select {
		case <-g.exited:
			late = true
			return true
		default:
			return false
		}
	})
	if late && !busy(g.logs.String()) {
		g.t.Fatalf("weir does not start:\n%s", g.logs)
	}
	return !late
}

// busy tells a policy that had too little time on this machine from one that
// cannot be loaded.
func busy(says string) bool {
	return slices.ContainsFunc([]string{"the guest ran for ", " was free within ", " was not compiled within "}, func(late string) bool {
		return strings.Contains(says, late)
	})
}

func (g *gateway) launch(env ...string) {
	g.t.Helper()
	g.logs, g.stdout = newLogs(g.t), &output{}
	g.exited, g.stopped = make(chan struct{}), false
	g.cmd = exec.Command(weir, append([]string{"run", "-c", g.config}, g.settings.args...)...)
	g.cmd.Env = append(os.Environ(), env...)
	g.cmd.Stdout = g.stdout
	stderr, err := g.cmd.StderrPipe()
	if err == nil {
		err = g.cmd.Start()
	}
	if err != nil {
		g.t.Fatal(err)
	}
	exited, cmd, logs := g.exited, g.cmd, g.logs
	go func() { // ends with the process
		logs.read(stderr)
		_ = cmd.Wait()
		close(exited)
	}()
	g.t.Cleanup(func() {
		if !g.stopped && g.cmd == cmd && !g.t.Failed() {
			g.stop()
		}
		_ = cmd.Process.Kill()
		<-exited
		if g.t.Failed() {
			g.t.Logf("log of weir (%s):\n%s", g.config, logs)
		}
	})
}

// stop drains Weir: it must end in order and have panicked nowhere.
func (g *gateway) stop() {
	g.t.Helper()
	g.signal(syscall.SIGTERM)
	if status := g.wait(); status != 0 {
		g.t.Errorf("weir exited with status %d after a drain", status)
	}
}

// wait returns the exit status.
func (g *gateway) wait() int {
	g.t.Helper()
	g.stopped = true
	receive(g.t, "weir to exit", g.exited)
	if n := len(g.logs.all("level=ERROR", "msg=panic*")); n > 0 {
		g.t.Errorf("weir panicked %d times", n)
	}
	return g.cmd.ProcessState.ExitCode()
}

func (g *gateway) signal(s os.Signal) {
	g.t.Helper()
	if err := g.cmd.Process.Signal(s); err != nil {
		g.t.Fatal(err)
	}
}

// ws and http are URLs on the public listener.
func (g *gateway) ws(path string) string   { return "ws://" + g.addr + path }
func (g *gateway) http(path string) string { return "http://" + g.addr + path }

// ask sends a request to the admin listener and returns status and body.
func (g *gateway) ask(method, path string) (int, []byte) {
	g.t.Helper()
	req, err := http.NewRequest(method, "http://"+g.admin+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	if g.token != "" {
		req.Header.Set("Authorization", "Bearer "+g.token)
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
	return resp.StatusCode, body
}

// client is Go's, without connections that outlive a request.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * patience}

// answer is what a GET on the public listener gave, its body read.
type answer struct {
	*http.Response
	body string
}

func (g *gateway) get(path string) answer {
	g.t.Helper()
	resp, err := client.Get(g.http(path))
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

func (g *gateway) tunnels() (all []tunnel) {
	g.t.Helper()
	g.decode("/connections", &all)
	return all
}

// decode reads the JSON of an admin endpoint.
func (g *gateway) decode(path string, v any) {
	g.t.Helper()
	status, body := g.ask("GET", path)
	if err := json.Unmarshal(body, v); err != nil || status != 200 {
		g.t.Fatalf("GET %s: %d, %v: %s", path, status, err, body)
	}
}

// metric is the value of a series as /metrics writes it, 0 when it is not
// there.
func (g *gateway) metric(series string) float64 {
	g.t.Helper()
	status, body := g.ask("GET", "/metrics")
	if status != 200 {
		g.t.Fatalf("GET /metrics: %d", status)
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), series+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				g.t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// limitFiles has descriptors of the process be below most, and returns what it was.
func (g *gateway) limitFiles(most uint64) (was uint64) {
	g.t.Helper()
	var l unix.Rlimit
	if err := unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &l); err != nil {
		g.t.Fatal(err)
	}
	was, l.Cur = l.Cur, most
	if err := unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_NOFILE, &l, nil); err != nil {
		g.t.Fatal(err)
	}
	return was
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

// configure writes a gateway.toml of s in place of the running one.
func (g *gateway) configure(s settings) {
	g.t.Helper()
	g.settings = s
	replace(g.t, g.config, []byte(s.toml(g.addr, g.admin)))
}

// command runs weir to its end.
func command(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, weir, args...)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	if e := cmd.Run(); e != nil && !errors.As(e, new(*exec.ExitError)) {
		t.Fatal(e)
	}
	return cmd.ProcessState.ExitCode(), out.String(), err.String()
}

// output is what a process has written so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// logs are the lines that a Weir has logged: each must be a JSON object.
type logs struct {
	t     *testing.T
	mu    sync.Mutex
	lines []line
	more  chan struct{} // closed when there is another line
	ended bool
}

type line map[string]any

func newLogs(t *testing.T) *logs { return &logs{t: t, more: make(chan struct{})} }

func (l *logs) read(r io.Reader) {
	br := bufio.NewReader(r)
	for {
		text, err := br.ReadBytes('\n')
		var one line
		if len(text) > 0 && json.Unmarshal(text, &one) != nil {
			one = line{"not JSON": string(text)}
			if !bytes.HasPrefix(text, []byte("weir run: ")) && !bytes.Contains(text, []byte("gateway.toml:")) {
				l.t.Errorf("neither JSON nor why it ends: %q", text)
			}
		}
		l.mu.Lock()
		if len(text) > 0 {
			l.lines = append(l.lines, one)
		}
		l.ended = err != nil
		close(l.more)
		l.more = make(chan struct{})
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// has reports whether the line has every key=value of want; a value ending in *
// is a prefix.
func (l line) has(want []string) bool {
	for _, w := range want {
		key, value, _ := strings.Cut(w, "=")
		got, ok := l[key]
		if !ok {
			return false
		}
		text, isText := got.(string)
		if !isText {
			b, _ := json.Marshal(got)
			text = string(b)
		}
		if prefix, cut := strings.CutSuffix(value, "*"); cut {
			if !strings.HasPrefix(text, prefix) {
				return false
			}
		} else if text != value {
			return false
		}
	}
	return true
}

// all returns the lines so far that have want.
func (l *logs) all(want ...string) (found []line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range l.lines {
		if one.has(want) {
			found = append(found, one)
		}
	}
	return found
}

// wait returns the first line that has want.
func (l *logs) wait(what string, want ...string) line { return l.waitFor(what, 1, want...) }

// waitFor returns the nth line that has want.
func (l *logs) waitFor(what string, n int, want ...string) line {
	l.t.Helper()
	for over := time.After(patience); ; {
		l.mu.Lock()
		more, ended := l.more, l.ended
		l.mu.Unlock()
		if found := l.all(want...); len(found) >= n {
			return found[n-1]
		}
		if ended {
			l.t.Fatalf("weir ended without a log line %q (%s):\n%s", want, what, l)
		}
		select {
		case <-more:
		case <-over:
			l.t.Fatalf("waited %v for a log line %q (%s)", patience, want, what)
		}
	}
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, one := range l.lines {
		text, _ := json.Marshal(one)
		b.Write(append(text, '\n'))
	}
	return b.String()
}
