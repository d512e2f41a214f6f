//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestCtrlCDrains(t *testing.T) {
	t.Parallel()
	g := shipped(t)
	c := dialGo(t, g.ws("/ws"), nil)
	writeGo(t, c, "x")
	readGo(t, c)
	// A request that is under way is finished.
	slow := make(chan string, 1)
	go func() {
		resp, err := client.Get(g.http("/slow?ms=500"))
		if err != nil {
			slow <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		slow <- fmt.Sprint(resp.StatusCode, " ", string(body), err)
	}()
	eventually(t, "the request to be under way", func() bool {
		var upstreams []struct {
			Targets []struct {
				InUse int `json:"in_use"`
			}
		}
		g.decode("/upstreams", &upstreams)
		return upstreams[0].Targets[0].InUse == 2
	})
	g.signal(syscall.SIGINT)
	_, _, err := c.Read(t.Context())
	if websocket.CloseStatus(err) != websocket.StatusServiceRestart {
		t.Errorf("the tunnel ended with %v, want 1012", err)
	}
	if got := receive(t, "the answer", slow); !strings.HasPrefix(got, "200 ") {
		t.Errorf("the request under way got %q", got)
	}
	if status := g.wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	g.logs.wait("the drain's begin", "msg=draining")
	g.logs.wait("its end", "msg=drained")
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	g := start(t, settings{server: `drain_timeout = "10m"`, urls: backend(t, func(c *raw) {
		c.request()
		asked <- struct{}{}
		_, _ = c.br.ReadByte() // never answers
	})})
	go func() {
		if resp, err := client.Get(g.http("/")); err == nil {
			resp.Body.Close()
		}
	}()
	receive(t, "the request", asked)
	g.signal(syscall.SIGINT)
	g.logs.wait("the drain", "msg=draining")
	again := time.NewTicker(200 * time.Millisecond) // two at once may count as one
	defer again.Stop()
	for ended := false; !ended; {
		select {
		case <-again.C:
			_ = g.cmd.Process.Signal(syscall.SIGINT)
		case <-g.exited:
			ended = true
		}
	}
	if status := g.wait(); status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	g.logs.wait("why", "msg=ended by a second signal before the drain was over")
}

func TestDrain(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(nil)
	slow := make(chan struct{})
	asked := make(chan struct{}, 1)
	url := backend(t, func(c *raw) {
		if c.request() == "" {
			return
		}
		asked <- struct{}{}
		<-slow
		c.send(ok)
	})
	g := start(t, settings{urls: s.url, server: `drain_timeout = "20s"`, limits: `handshake_timeout = "1m"`, rest: `[[route]]
path = "/slow"
upstream = "slow"

[upstream.slow]
urls = ["` + url + `"]
`})
	const count = 20
	var clients, upstreams []*peer
	for range count {
		c, up := n.pair(g, s, nil)
		clients, upstreams = append(clients, c), append(upstreams, up)
	}
	// One request under way, one connection that is idle, one that has begun a request.
	under := dialRaw(t, g.addr)
	under.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	receive(t, "the request", asked)
	idle := dialRaw(t, g.addr)
	idle.send("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
	idle.response("GET")
	begun := dialRaw(t, g.addr)
	begun.send("GET / HTTP/1.1\r\n")
	eventually(t, "the begun request to be seen", func() bool { return g.metric(`weir_connections{state="http"}`) >= 3 })

	g.signal(syscall.SIGTERM)
	g.logs.wait("the drain", "msg=draining")
	hints := map[string]bool{}
	for i, c := range clients {
		code, reason := c.closed()
		hint, found := strings.CutPrefix(reason, "draining: retry_after_ms=")
		ms, err := strconv.Atoi(hint)
		if code != 1012 || !found || err != nil || ms < 1 || ms > 20_001 {
			t.Errorf("client %d was closed with %d %q", i, code, reason)
		}
		hints[hint] = true
		if code, _ := upstreams[i].closed(); code != 1012 {
			t.Errorf("upstream %d was closed with %d", i, code)
		}
	}
	if len(hints) < count/2 {
		t.Errorf("%d clients were given %d hints", count, len(hints))
	}
	idle.ended()
	if status, body := g.ask("GET", "/readyz"); status != 503 || !strings.Contains(string(body), "draining") {
		t.Errorf("/readyz: %d, %s", status, body)
	}
	if status, _ := g.ask("GET", "/livez"); status != 200 {
		t.Errorf("/livez: %d", status)
	}
	begun.send("Host: a\r\n\r\n")
	refused := func(c *raw) {
		t.Helper()
		a := c.response("GET")
		if p := decodeProblem(t, a.body); a.StatusCode != 503 || p.Code != "draining" || !p.Retryable || p.RetryAfterMS < 1 || a.Header.Get("Retry-After") == "" || !a.Close {
			t.Errorf("%s, %v, %s", a.Status, a.Header, a.body)
		}
		c.ended()
	}
	refused(begun)
	late := dialRaw(t, g.addr)
	late.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	refused(late)
	if p := decodeProblem(t, n.refused(g.ws("/"), nil, 503).Text); p.Code != "draining" {
		t.Errorf("%+v", p)
	}
	close(slow)
	if a := under.response("GET"); a.StatusCode != 200 || a.body != "ok" || !a.Close {
		t.Errorf("the request under way: %s, %q", a.Status, a.body)
	}
	if status := g.wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// drain_timeout is how long a drain takes at most.
func TestADrainComesToItsEnd(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	url := backend(t, func(c *raw) {
		c.request()
		asked <- struct{}{}
		_, _ = c.br.ReadByte()
	})
	g := start(t, settings{urls: url, server: `drain_timeout = "500ms"`})
	c := dialRaw(t, g.addr)
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	receive(t, "the request", asked)
	g.signal(syscall.SIGTERM)
	c.ended()
	g.wait()
	g.logs.wait("the end", "level=WARN", "msg=drain_timeout*")
}
