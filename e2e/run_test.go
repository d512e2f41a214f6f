//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// shipped runs a copy of gateway.toml as it ships, on other ports.
func shipped(t *testing.T) *gateway {
	t.Helper()
	b, err := os.ReadFile("../gateway.toml")
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{t: t, addr: freeAddr(t), admin: freeAddr(t)}
	text := string(b)
	for was, is := range map[string]string{
		"127.0.0.1:8080":          g.addr,
		"127.0.0.1:9090":          g.admin,
		`"plugins/standard.wasm"`: strconv.Quote(standard),
	} {
		if !strings.Contains(text, was) {
			t.Fatalf("the shipped gateway.toml has no %s", was)
		}
		text = strings.ReplaceAll(text, was, is)
	}
	g.config = write(t, "gateway.toml", text)
	g.run()
	return g
}

func TestTheShippedConfigurationShowsTheDemonstration(t *testing.T) {
	t.Parallel()
	g := shipped(t)

	t.Run("what to try is printed, and works", func(t *testing.T) {
		eventually(t, "what to try", func() bool { return strings.Contains(g.stdout.String(), "Ctrl-C") }) // behind the log's "ready"
		out := g.stdout.String()
		for _, want := range []string{"http://" + g.addr + "/", "curl -N http://" + g.addr + "/events", g.admin} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in\n%s", want, out)
			}
		}
	})
	t.Run("a page at /", func(t *testing.T) {
		a := g.get("/")
		if a.StatusCode != 200 || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") || !strings.Contains(a.body, "WebSocket") {
			t.Errorf("%s, %v, %.200s", a.Status, a.Header, a.body)
		}
	})
	t.Run("/ws echoes text and binary", func(t *testing.T) {
		c := dialGo(t, g.ws("/ws"), nil)
		for _, m := range []string{"", "hello", strings.Repeat("ü", 100_000)} {
			writeGo(t, c, m)
			if got := readGo(t, c); got != m {
				t.Errorf("%d bytes came back as %d", len(m), len(got))
			}
		}
	})
	t.Run("/ws streams events", func(t *testing.T) {
		c := dialGo(t, g.ws("/ws"), nil)
		writeGo(t, c, `{"type":"stream","rate":2000,"size":200}`)
		seen, seq := map[string]int{}, 0
		for range 200 {
			var e struct {
				Type string
				Seq  int
			}
			text := readGo(t, c)
			if err := json.Unmarshal([]byte(text), &e); err != nil || len(text) < 200 {
				t.Fatalf("%q: %v", text, err)
			}
			if seen[e.Type]++; e.Type == "message" {
				if seq++; e.Seq != seq {
					t.Fatalf("message %d, want %d", e.Seq, seq)
				}
			}
		}
		for _, kind := range []string{"presence", "typing", "status", "message"} {
			if seen[kind] == 0 {
				t.Errorf("no %s among %v", kind, seen)
			}
		}
	})
	t.Run("/echo returns a body", func(t *testing.T) {
		body := strings.Repeat("0123456789", 100_000)
		resp, err := client.Post(g.http("/echo"), "text/x-test", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil || string(got) != body || resp.Header.Get("Content-Type") != "text/x-test" {
			t.Errorf("%d bytes, %v, %v", len(got), resp.Header, err)
		}
	})
	t.Run("/events without an end", func(t *testing.T) {
		resp, err := client.Get(g.http("/events?rate=20"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
			t.Error(got)
		}
		for br, n := bufio.NewReader(resp.Body), 0; n < 3; {
			line, err := br.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(line, "data:") {
				n++
			}
		}
	})
	t.Run("/stream", func(t *testing.T) {
		if a := g.get("/stream?bytes=3000001&chunk=70000"); len(a.body) != 3000001 {
			t.Errorf("%d bytes", len(a.body))
		}
	})
}

// Who reads the log may stop: nothing waits for it, not even the end.
func TestALogThatNobodyReads(t *testing.T) {
	t.Parallel()
	g := &gateway{t: t, addr: freeAddr(t), admin: freeAddr(t)}
	path := write(t, "gateway.toml", settings{}.toml(g.addr, g.admin))
	r, full, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_ = full.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // ends once no byte more fits
	_, _ = full.Write(make([]byte, 16<<20))
	cmd := exec.Command(weir, "run", "-c", path, "--log-level", "debug")
	cmd.Stdout, cmd.Stderr = full, full
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })

	eventually(t, "weir to be ready", func() bool {
		resp, err := client.Get("http://" + g.admin + "/readyz")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == 200
	})
	for range 10 {
		c := dialGo(t, g.ws("/ws"), nil)
		writeGo(t, c, "hello")
		if got := readGo(t, c); got != "hello" {
			t.Errorf("%q", got)
		}
		_ = c.Close(websocket.StatusNormalClosure, "")
		if a := g.get("/"); a.StatusCode != 200 {
			t.Error(a.Status)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, "weir to exit", exited); err != nil {
		t.Error(err)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	status, out, _ := command(t, "version")
	if status != 0 || !strings.HasPrefix(out, "weir ") || !strings.Contains(out, "\nabi  1.") {
		t.Errorf("%d, %q", status, out)
	}
}

func TestEveryCommandTeaches(t *testing.T) {
	t.Parallel()
	for _, c := range []string{"run", "validate", "reload", "version"} {
		status, out, _ := command(t, c, "--help")
		if status != 0 || !strings.Contains(out, "Examples:") || !strings.Contains(out, "--config") {
			t.Errorf("weir %s --help: %d\n%s", c, status, out)
		}
	}
	for _, args := range [][]string{{"walk"}, {"run", "fast"}, {"run", "--fast"}} {
		status, _, err := command(t, args...)
		if status != 2 || !strings.Contains(err, "--help") {
			t.Errorf("weir %v: %d, %q", args, status, err)
		}
	}
}

func TestRunRefusesWhatValidateRefuses(t *testing.T) {
	t.Parallel()
	path := write(t, "gateway.toml", `[server]
listn = ":80"
drain_timeout = "5"

[limits]
max_message_size = -1
max_inbox = 0
max_body_size = "16 parsecs"

[[route]]
path = "ws"
upstream = "nowhere"

[[route]]
upstream = "u"
policy = "missing"

[upstream.u]
urls = ["demo:"]

[policy.p]
module = "nothing.wasm"
`)
	problems := func(command, stderr string) {
		for _, want := range []string{
			":2: server.listn: ", ":3: server.drain_timeout: ", ":6: limits.max_message_size: ", ":7: limits.max_inbox: ",
			":8: limits.max_body_size: ", ":11: route[0].path: ", ":12: route[0].upstream: ", ":16: route[1].policy: ", ":22: policy.p.module: ",
		} {
			if !strings.Contains(stderr, path+want) {
				t.Errorf("weir %s does not complain of %s\n%s", command, want, stderr)
			}
		}
	}
	status, out, validated := command(t, "validate", "-c", path)
	if status != 1 || out != "" {
		t.Errorf("validate: %d, %q", status, out)
	}
	problems("validate", validated)
	status, out, refused := command(t, "run", "-c", path)
	if status != 1 || out != "" {
		t.Errorf("run: %d, %q", status, out)
	}
	if refused != validated {
		t.Errorf("validate says\n%s\nrun says\n%s", validated, refused)
	}
}

// What a policy refuses is found by validate too: it is loaded and asked.
func TestValidateAsksPolicies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		settings
	}{
		{"settings that it does not know", "policy.p.config: .*dropable: unknown key", settings{policy: `dropable = ["x"]`}},
		{"settings of the wrong type", "policy.p.config: .*gap_notice: wanted a boolean", settings{policy: `gap_notice = 1`}},
		{"a module that is none", "policy.p.module: ", settings{module: write(t, "x.wasm", "not Wasm")}},
		{"a module that is not there", "policy.p.module: ", settings{module: "nothing.wasm"}},
	} {
		path := write(t, "gateway.toml", c.toml("127.0.0.1:1", "127.0.0.1:2"))
		status, _, validated := command(t, "validate", "-c", path)
		if status != 1 || !regexp.MustCompile(regexp.QuoteMeta(path)+`:\d+: `+c.want).MatchString(validated) {
			t.Errorf("%s: validate: %d, %s", c.name, status, validated)
		}
		status, _, refused := command(t, "run", "-c", path)
		if status != 1 || refused != validated {
			t.Errorf("%s: validate says\n%s\nrun says (%d)\n%s", c.name, validated, status, refused)
		}
	}
	path := write(t, "gateway.toml", settings{policy: `droppable = ["x"]`}.toml("127.0.0.1:1", "127.0.0.1:2"))
	status, out, err := command(t, "validate", "-c", path)
	if status != 0 || err != "" || !strings.Contains(out, "ok: 1 route, 1 upstream, 1 policy") {
		t.Errorf("a good file: %d, %q, %q", status, out, err)
	}
}

// Roots that cannot be read are found by validate too.
func TestValidateReadsTheRoots(t *testing.T) {
	t.Setenv("SSL_CERT_FILE", t.TempDir()) // no file
	t.Setenv("SSL_CERT_DIR", filepath.Join(t.TempDir(), "nothing"))
	path := write(t, "gateway.toml", settings{native: true, urls: "https://127.0.0.1:1"}.toml("127.0.0.1:1", "127.0.0.1:2"))
	status, _, validated := command(t, "validate", "-c", path)
	if status != 1 || !strings.Contains(validated, ": upstream.") || !strings.Contains(validated, "roots") {
		t.Errorf("validate: %d, %s", status, validated)
	}
	if status, _, refused := command(t, "run", "-c", path); status != 1 || refused != validated {
		t.Errorf("validate says\n%s\nrun says (%d)\n%s", validated, status, refused)
	}
}

func TestAnAddressInUse(t *testing.T) {
	t.Parallel()
	g := start(t, settings{})
	path := write(t, "gateway.toml", settings{}.toml(g.addr, freeAddr(t)))
	status, _, err := command(t, "run", "-c", path)
	if status != 1 || !strings.Contains(err, g.addr) || !strings.Contains(err, "server.listen") {
		t.Errorf("%d, %q", status, err)
	}
}

func TestReloadWithoutARunningWeir(t *testing.T) {
	t.Parallel()
	path := write(t, "gateway.toml", settings{}.toml("127.0.0.1:1", freeAddr(t)))
	status, _, err := command(t, "reload", "-c", path)
	if status != 1 || !strings.Contains(err, "is Weir running") {
		t.Errorf("%d, %q", status, err)
	}
}
