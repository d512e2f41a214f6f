package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"weir/hostabi/conformance"
	"weir/proxy/config"
	"weir/proxy/leak"
)

// TestMain fails when a test leaves a goroutine of Weir's behind.
func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "weir-gateway"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(buildDir)
	http.DefaultClient.CloseIdleConnections()
	leak.Exit(code, leak.Goroutines("weir/"))
}

var (
	buildDir     string // the directory of what is built once for all tests
	standardOnce sync.Once
)

// standard returns the path of the standard policy, built once.
func standard(t testing.TB) string {
	t.Helper()
	path := filepath.Join(buildDir, "standard.wasm")
	standardOnce.Do(func() {
		if err := os.WriteFile(path, conformance.BuildGo(t, "weir/plugins/standard"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	return path
}

// rig is a gateway under test with the file it was started from.
type rig struct {
	t    testing.TB
	g    *Gateway
	path string
	base string // http://host:port
	logs *logBuffer
	stop func()

	fails bool // Run is to return an error
}

// start runs a gateway on free ports. {{module}} in the configuration is the
// standard policy.
func start(t testing.TB, toml string) *rig { return startIn(t, t.TempDir(), config.Files{}, toml) }

// startIn runs a gateway with its file in dir, read by files.
func startIn(t testing.TB, dir string, files config.Files, toml string) *rig {
	t.Helper()
	r := prepare(t, dir, files, toml)
	r.run()
	return r
}

// prepare makes a gateway that listens and serves nobody before run.
func prepare(t testing.TB, dir string, files config.Files, toml string) *rig {
	t.Helper()
	r := &rig{t: t, path: filepath.Join(dir, "gateway.toml"), logs: new(logBuffer)}
	r.write(toml)
	cfg, err := files.Load(r.path)
	if err != nil {
		t.Fatal(err)
	}
	r.g, err = New(t.Context(), cfg, Options{
		Log: slog.New(slog.NewJSONHandler(r.logs, nil)), Version: "test", CallTimeout: time.Second, InitTimeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.base = "http://" + r.g.Addr().String()
	return r
}

func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.g.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; (err != nil) != r.fails {
			r.t.Errorf("Run: %v", err)
		}
		r.leavesNothing()
	})
	r.t.Cleanup(r.stop)
}

// leavesNothing holds that nobody counts as here any more.
func (r *rig) leavesNothing() {
	r.t.Helper()
	counted := map[string]*clients{"the process": r.g.clients}
	for name, live := range r.g.routes {
		counted["route "+name] = live.clients
	}
	for where, c := range counted {
		if c.total != 0 || len(c.byIP) != 0 {
			r.t.Errorf("%s counts %d connections at the end, of %v", where, c.total, c.byIP)
		}
	}
	if n := r.g.overrun.Load(); n != 0 {
		r.t.Errorf("%d connections above a limit count at the end", n)
	}
	for name, u := range r.g.current.Load().upstreams {
		for _, s := range u.part.Status() {
			if s.InUse != 0 {
				r.t.Errorf("upstream %s at the end: %+v", name, s)
			}
		}
	}
}

const head = `
[server]
listen = "127.0.0.1:0"
drain_timeout = "2s"
[admin]
listen = "none"
`

// write replaces the configuration file by renaming, as editors and operators do.
func (r *rig) write(toml string) {
	r.t.Helper()
	if strings.Contains(toml, "{{module}}") {
		toml = strings.ReplaceAll(toml, "{{module}}", standard(r.t))
	}
	tmp := r.path + ".new"
	if err := os.WriteFile(tmp, []byte(head+toml), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(tmp, r.path); err != nil {
		r.t.Fatal(err)
	}
}

// reload has another configuration taken up, with a line of its head replaced.
func (r *rig) reload(line, by, toml string) {
	r.t.Helper()
	toml = strings.Replace(head, line, by, 1) + toml
	if err := os.WriteFile(r.path, []byte(toml), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := r.g.Reload(); err != nil {
		r.t.Fatal(err)
	}
}

// build makes the generation that another configuration would, beside the one that runs.
func (r *rig) build(toml string) *generation {
	r.t.Helper()
	cfg, err := config.Parse(r.path, []byte(head+toml))
	if err != nil {
		r.t.Fatal(err)
	}
	gen, err := r.g.build(r.t.Context(), cfg, r.g.current.Load())
	if err != nil {
		r.t.Fatal(err)
	}
	return gen
}

// get returns status and body.
func (r *rig) get(path string, header ...string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.base+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// dial opens a WebSocket, or returns the HTTP answer that refused it.
func (r *rig) dial(path string, header ...string) (*websocket.Conn, *http.Response, error) {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return websocket.Dial(r.t.Context(), "ws"+strings.TrimPrefix(r.base, "http")+path, &websocket.DialOptions{HTTPHeader: h})
}

func (r *rig) ws(path string) *websocket.Conn {
	r.t.Helper()
	c, _, err := r.dial(path)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

// gauge holds the value of a metric that has one.
func (r *rig) gauge(name string, want float64) {
	r.t.Helper()
	families, err := r.g.metrics.Registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			if got := f.GetMetric()[0].GetGauge().GetValue(); got != want {
				r.t.Errorf("%s is %v, want %v", name, got, want)
			}
			return
		}
	}
	r.t.Errorf("there is no %s", name)
}

// echo sends a message and expects it back.
func echo(ctx context.Context, c *websocket.Conn, msg string) error {
	if err := c.Write(ctx, websocket.MessageText, []byte(msg)); err != nil {
		return err
	}
	_, got, err := c.Read(ctx)
	if err != nil {
		return err
	}
	if string(got) != msg {
		return fmt.Errorf("sent %.200q, got %.200q", msg, got)
	}
	return nil
}

// patience bounds every wait for a state: under the race detector a policy takes
// seconds to load, and many times that on a busy machine.
const patience = time.Minute

// until waits for a state.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for over := time.Now().Add(patience); !f(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(over) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

type logBuffer struct {
	mu     sync.Mutex
	b      bytes.Buffer
	before func(line string)
}

// on has f called before a line with msg is written.
func (l *logBuffer) on(msg string, f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before = func(line string) {
		if strings.Contains(line, `"msg":"`+msg+`"`) {
			f()
		}
	}
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	before := l.before
	l.mu.Unlock()
	if before != nil {
		before(string(p))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const demoUpstream = `
[upstream.demo]
urls = ["demo:"]
`
