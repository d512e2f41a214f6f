//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/coder/websocket"
)

// reloadable is a Weir whose policy is a module of the test's own, in a
// directory of its own.
func reloadable(t *testing.T, maxSize int) (g *gateway, module string) {
	t.Helper()
	module = filepath.Join(t.TempDir(), "p.wasm")
	if err := os.WriteFile(module, guest(t, maxSize), 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, settings{module: module}), module
}

// note is a message of which the guest allows as many bytes as it was built
// for.
func note(size int) string {
	return `{"type":"note","pad":"` + strings.Repeat("x", size-24) + `"}`
}

// passes tells whether a note of this size is echoed, through a tunnel to the
// demonstration backend.
func passes(t *testing.T, c *websocket.Conn, size int) bool {
	t.Helper()
	writeGo(t, c, note(size))
	got := readGo(t, c)
	if got == note(size) {
		return true
	}
	if e := decodeError(t, got); e.Error.Code != "payload_too_large" {
		t.Fatal(got)
	}
	return false
}

// A module that is renamed into place takes effect on the next message of a
// tunnel that is open.
func TestAModuleIsReplaced(t *testing.T) {
	t.Parallel()
	g, module := reloadable(t, 100)
	c := dialGo(t, g.ws("/ws"), nil)
	if !passes(t, c, 100) || passes(t, c, 101) {
		t.Fatal("the first module allows 100 bytes")
	}
	replace(t, module, guest(t, 1000))
	eventually(t, "the new module's rule", func() bool { return passes(t, c, 1000) })
	if passes(t, c, 1001) {
		t.Error("1001 bytes pass")
	}
	if n := g.generation(); n != 2 {
		t.Errorf("generation %d", n)
	}
	// Overwritten where it stands, as by cp.
	if err := os.WriteFile(module, guest(t, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first module's rule", func() bool { return !passes(t, c, 1000) })
	if !passes(t, c, 100) {
		t.Error("100 bytes do not pass")
	}
	g.logs.wait("the second reload", "msg=reloaded", "generation=3")
}

// Every way to ask for a reload comes to the same.
func TestWaysToReload(t *testing.T) {
	t.Parallel()
	g := start(t, settings{limits: `max_message_size = "1KiB"`})
	c := dialGo(t, g.ws("/ws"), nil)
	allows := func(size int) bool {
		writeGo(t, c, strings.Repeat("x", size))
		return len(readGo(t, c)) == size
	}
	if allows(2000) {
		t.Fatal("2000 bytes pass")
	}
	at := 1000
	change := func() (size int) { // a gateway.toml that allows twice as much
		at *= 2
		g.configure(settings{limits: fmt.Sprintf("max_message_size = %d", at)})
		return at
	}
	now := func(how string, size int) {
		t.Helper()
		if !allows(size) {
			t.Errorf("%s has returned, and %d bytes do not pass", how, size)
		}
	}

	size := change()
	eventually(t, "the changed gateway.toml", func() bool { return allows(size) })

	size = change()
	g.signal(syscall.SIGHUP)
	eventually(t, "the reload by SIGHUP", func() bool { return allows(size) })

	size = change()
	if status, out, err := command(t, "reload", "-c", g.config); status != 0 || !strings.Contains(out, ": generation ") {
		t.Errorf("weir reload: %d, %q, %q", status, out, err)
	}
	now("weir reload", size)

	size = change()
	if status, body := g.ask("POST", "/reload"); status != 200 || !strings.Contains(string(body), `"generation"`) {
		t.Errorf("POST /reload: %d, %s", status, body)
	}
	now("POST /reload", size)

	// Nothing has changed: nothing is reloaded.
	was := g.generation()
	if status, _ := g.ask("POST", "/reload"); status != 200 {
		t.Errorf("POST /reload: %d", status)
	}
	if n := g.generation(); n != was {
		t.Errorf("generation %d after %d, with the same files", n, was)
	}
}

// A SIGHUP where nothing has changed is no reload.
func TestASIGHUPWithoutAChange(t *testing.T) {
	t.Parallel()
	g := start(t, settings{})
	for range 5 {
		g.signal(syscall.SIGHUP)
	}
	if a := g.get("/status/200"); a.StatusCode != 200 {
		t.Errorf("%s", a.Status)
	}
	if n := g.generation(); n != 1 {
		t.Errorf("generation %d", n)
	}
}

// What is refused changes nothing, and says why everywhere.
func TestABadReloadKeepsTheLastGoodOne(t *testing.T) {
	t.Parallel()
	g, module := reloadable(t, 100)
	good := guest(t, 100)
	c := dialGo(t, g.ws("/ws"), nil)
	stays := func(why string) {
		t.Helper()
		if !passes(t, c, 100) || passes(t, c, 101) {
			t.Errorf("%s: the rules have changed", why)
		}
		if d := dialGo(t, g.ws("/ws"), nil); !passes(t, d, 100) || passes(t, d, 101) {
			t.Errorf("%s: a new tunnel has other rules", why)
		}
	}
	restore := func() {
		t.Helper()
		replace(t, module, good)
		g.configure(settings{module: module})
		if status, _, err := command(t, "reload", "-c", g.config); status != 0 {
			t.Fatalf("a good configuration is refused: %s", err)
		}
		if n := g.metric("weir_config_last_reload_successful"); n != 1 {
			t.Errorf("weir_config_last_reload_successful is %v", n)
		}
	}
	truncated := good[:len(good)/2]
	future := slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		[]byte("\x01\x0b\x02\x60\x00\x01\x7f\x60\x02\x7f\x7f\x01\x7f\x03\x03\x02\x00\x01\x05\x03\x01\x00\x01"),
		[]byte("\x07\x23\x03\x06memory\x02\x00\x08weir_abi\x00\x00\x0bweir_buffer\x00\x01\x0a\x0e\x02\x06\x00\x41\x80\x80\x08\x0b\x05\x00\x41\x80\x08\x0b"))
	for _, b := range []struct {
		name   string
		module []byte
		toml   func() string
		want   string
	}{
		{"a module that is no Wasm", []byte("not Wasm"), nil, "policy.p.module"},
		{"a module cut short", truncated, nil, "policy.p.module"},
		{"a module of another ABI", future, nil, "policy.p.module"},
		{"a policy that refuses its settings", nil, func() string {
			return settings{module: module, policy: `whatever = 1`}.toml(g.addr, g.admin)
		}, "policy.p.config"},
		{"an unknown key", nil, func() string { return settings{module: module, limits: `max_mesage_size = 1`}.toml(g.addr, g.admin) }, "limits.max_mesage_size"},
		{"a zero ceiling", nil, func() string { return settings{module: module, limits: `max_inbox = 0`}.toml(g.addr, g.admin) }, "limits.max_inbox"},
	} {
		failed := len(g.logs.all("level=ERROR", "msg=reload failed*"))
		if b.module != nil {
			replace(t, module, b.module)
		} else {
			replace(t, g.config, []byte(b.toml()))
		}
		line := g.logs.waitFor("the watched files' reload to fail: "+b.name, failed+1, "level=ERROR", "msg=reload failed*")
		if text := fmt.Sprint(line["error"]); !strings.Contains(text, b.want) {
			t.Errorf("%s: logged %q, want %s", b.name, text, b.want)
		}
		if n := g.metric("weir_config_last_reload_successful"); n != 0 {
			t.Errorf("%s: weir_config_last_reload_successful is %v", b.name, n)
		}
		status, _, err := command(t, "reload", "-c", g.config)
		if status != 1 || !strings.Contains(err, b.want) {
			t.Errorf("%s: weir reload: %d, %s", b.name, status, err)
		}
		if status, body := g.ask("POST", "/reload"); status != 422 || !strings.Contains(string(body), "the last one still runs") {
			t.Errorf("%s: POST /reload: %d, %s", b.name, status, body)
		}
		stays(b.name)
		restore()
	}
}

// A change that is saved while no file can be opened is read as soon as one can.
func TestAChangeWithoutDescriptors(t *testing.T) {
	t.Parallel()
	g, module := reloadable(t, 100)
	c := dialGo(t, g.ws("/ws"), nil)
	was := g.limitFiles(3)
	replace(t, module, guest(t, 1000))
	failed := g.logs.wait("a reload that fails", "msg=reload failed, the running configuration stays")
	if why := fmt.Sprint(failed["error"]); !strings.Contains(why, "too many open files") {
		t.Errorf("it fails for another reason: %s", why)
	}
	dialRaw(t, g.addr)
	refused := g.logs.wait("a connection that is not accepted", "msg=connections cannot be accepted", "listen="+g.addr, "file_limit=3")
	if remedy := fmt.Sprint(refused["remedy"]); !strings.Contains(remedy, "max_connections") {
		t.Errorf("the remedy is %s", remedy)
	}
	g.limitFiles(was)
	eventually(t, "the new module's rule", func() bool { return passes(t, c, 1000) })
	if n := g.metric("weir_config_last_reload_successful"); n != 1 {
		t.Errorf("weir_config_last_reload_successful is %v", n)
	}
}

func TestAChangedListenNeedsARestart(t *testing.T) {
	t.Parallel()
	g := start(t, settings{})
	other := freeAddr(t)
	replace(t, g.config, []byte(settings{}.toml(other, g.admin)))
	g.logs.wait("the refusal", "level=ERROR", "msg=reload failed*")
	status, _, err := command(t, "reload", "-c", g.config)
	if status != 1 || !strings.Contains(err, "server.listen") || !strings.Contains(err, "restart") || !strings.Contains(err, other) {
		t.Errorf("weir reload: %d, %s", status, err)
	}
	if status, body := g.ask("POST", "/reload"); status != 409 || !strings.Contains(string(body), "restart") {
		t.Errorf("POST /reload: %d, %s", status, body)
	}
	if a := g.get("/status/200"); a.StatusCode != 200 {
		t.Errorf("%s", a.Status)
	}
	// A restart it is.
	g.stop()
	g.addr = other
	g.run()
	if a := g.get("/status/200"); a.StatusCode != 200 {
		t.Errorf("after the restart: %s", a.Status)
	}
}

// Routes and upstreams reload; a tunnel stays with the upstream it has.
func TestRoutesAndUpstreamsReload(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	first, second := n.serve(args{"echo": true}), n.serve(nil)
	g := start(t, settings{urls: first.url})
	c := n.dial(g.ws("/"), nil)
	g.configure(settings{urls: second.url, route: `path = "/new"`})
	eventually(t, "the route to be gone", func() bool { return g.get("/").StatusCode == 404 })
	n.refused(g.ws("/"), nil, 404)
	d := n.dial(g.ws("/new"), nil)
	up := second.accept()
	d.send("x")
	if got := up.message(); got != "x" {
		t.Errorf("%q", got)
	}
	c.send("still here")
	if got := c.message(); got != "still here" {
		t.Errorf("%q", got)
	}
}

// The admin token is reloaded too.
func TestTheTokenReloads(t *testing.T) {
	t.Parallel()
	g := start(t, settings{admin: `token = "old"`})
	g.token = "old"
	g.configure(settings{admin: `token = "new"`})
	eventually(t, "the old token to be refused", func() bool {
		status, _ := g.ask("GET", "/connections")
		return status == 401
	})
	g.token = "new"
	if status, _ := g.ask("GET", "/connections"); status != 200 {
		t.Errorf("with the new token: %d", status)
	}
}

// Twenty reloads under load: not one message or request fails, and nothing is
// left over.
func TestReloadsUnderLoad(t *testing.T) {
	t.Parallel()
	g, module := reloadable(t, 100)
	modules := [][]byte{guest(t, 100), guest(t, 1000)}

	const tunnels = 8
	var (
		load     sync.WaitGroup
		over     = make(chan struct{})
		echoed   [tunnels]atomic.Int64
		requests atomic.Int64
	)
	done := func() bool {
		select {
		case <-over:
			return true
		default:
			return false
		}
	}
	conns := make([]*websocket.Conn, tunnels)
	for i := range conns {
		conns[i] = dialGo(t, g.ws("/ws"), nil)
	}
	for i, c := range conns {
		load.Go(func() { // ends when over is closed
			for k := 0; !done(); k++ {
				text := fmt.Sprintf(`{"type":"k%d","id":"%d.%d"}`, k%50, i, k)
				if err := c.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
					t.Errorf("tunnel %d: message %d: %v", i, k, err)
					return
				}
				_, got, err := c.Read(t.Context())
				if err != nil || string(got) != text {
					t.Errorf("tunnel %d: message %d came back as %q, %v", i, k, got, err)
					return
				}
				echoed[i].Add(1)
			}
		})
	}
	for range 2 {
		keep := &http.Client{Transport: &http.Transport{}}
		load.Go(func() {
			defer keep.CloseIdleConnections()
			for !done() {
				resp, err := keep.Post(g.http("/echo"), "text/plain", strings.NewReader("hello"))
				if err != nil {
					t.Errorf("request: %v", err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 || string(body) != "hello" || err != nil {
					t.Errorf("request: %s, %q, %v", resp.Status, body, err)
				}
				requests.Add(1)
			}
		})
	}
	progress := func() { // every tunnel and the requests move on
		t.Helper()
		var was [tunnels]int64
		for i := range was {
			was[i] = echoed[i].Load()
		}
		asked := requests.Load()
		eventually(t, "load to move on", func() bool {
			for i := range was {
				if echoed[i].Load() < was[i]+5 {
					return t.Failed()
				}
			}
			return requests.Load() > asked || t.Failed()
		})
	}
	progress()
	goroutines := g.metric("go_goroutines")
	instances := g.metric(`weir_policy_instances{policy="p"}`)
	const reloads = 20
	for i := range reloads {
		replace(t, module, modules[(i+1)%2])
		if status, body := g.ask("POST", "/reload"); status != 200 {
			t.Fatalf("reload %d: %d %s", i, status, body)
		}
		progress()
	}
	close(over)
	load.Wait()
	if n := g.generation(); n != reloads+1 {
		t.Errorf("generation %d after %d reloads", n, reloads)
	}
	eventually(t, "old instances to be closed", func() bool { return g.metric(`weir_policy_instances{policy="p"}`) <= instances })
	eventually(t, "goroutines to end", func() bool { return g.metric("go_goroutines") <= goroutines+4 })
	for code := range map[string]bool{"policy_failed": true, "upstream_closed": true, "payload_too_large": true, "draining": true} {
		if n := g.metric(`weir_faults_total{code="` + code + `"}`); n != 0 {
			t.Errorf("%v faults %s", n, code)
		}
	}
}
