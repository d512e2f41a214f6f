package gateway

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"weir/proxy/config"
)

func TestDraining(t *testing.T) {
	r := start(t, plainRoute)
	tunnel := r.ws("/ws")
	if err := echo(t.Context(), tunnel, "before"); err != nil {
		t.Fatal(err)
	}
	// A request under way: the head of the answer is here, the rest is not.
	res, err := http.Get(r.base + "/events?rate=20&count=10")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	fresh, err := net.Dial("tcp", r.g.Addr().String()) // whose request is on its way
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	until(t, "new work is refused", func() bool { return strings.Contains(r.logs.String(), `"msg":"draining"`) })
	_, _ = io.WriteString(fresh, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
	if b, err := io.ReadAll(fresh); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 503 ") || !strings.Contains(string(b), `"draining"`) {
		t.Errorf("who had connected: %s %v", b, err)
	}

	if c, err := http.Post(r.base+"/echo", "text/plain", strings.NewReader("late")); err != nil {
		t.Errorf("late: %v", err)
	} else {
		body, _ := io.ReadAll(c.Body)
		_ = c.Body.Close()
		if c.StatusCode != 503 || !strings.Contains(string(body), `"draining"`) || c.Header.Get("Retry-After") == "" {
			t.Errorf("late: %d %s %v", c.StatusCode, body, c.Header)
		}
	}
	_, _, err = tunnel.Read(t.Context())
	var closed websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != 1012 || !strings.Contains(closed.Reason, "retry_after_ms=") {
		t.Errorf("the tunnel ended with %v", err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || strings.Count(string(body), "data:") != 10 {
		t.Errorf("the request under way got %d events, %v", strings.Count(string(body), "data:"), err)
	}
	<-stopped
}

// A handshake under way when a drain begins becomes a tunnel, which is told to
// leave and waited for like the others.
func TestADrainWaitsForHandshakes(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		close(asked)
		<-answer
		if c, err := websocket.Accept(w, req, nil); err == nil {
			_, _, _ = c.Read(req.Context()) // answers the close
		}
	}))
	defer upstream.Close()
	r := start(t, "[upstream.u]\nurls = [\""+upstream.URL+"\"]\n[[route]]\nupstream = \"u\"\n")
	r.logs.on("draining", func() { close(answer) })
	stopped := make(chan struct{})
	go func() { <-asked; r.stop(); close(stopped) }()
	_, _, err := r.ws("/ws").Read(t.Context())
	if websocket.CloseStatus(err) != 1012 {
		t.Errorf("the tunnel ended with %v", err)
	}
	<-stopped
	if logs := r.logs.String(); !strings.Contains(logs, `"msg":"drained"`) {
		t.Errorf("the drain did not wait: %s", logs)
	}
}

// A tunnel that starts just when a drain begins is told once: told twice it would end
// at once, without what its upstream still has to say.
func TestATunnelThatADrainMeetsIsToldOnce(t *testing.T) {
	asked, answer, last := make(chan struct{}), make(chan struct{}), make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		close(asked)
		<-answer
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Sec-WebSocket-Accept", acceptKey(req.Header.Get("Sec-WebSocket-Key")))
		w.WriteHeader(http.StatusSwitchingProtocols)
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		<-last
		_, _ = io.WriteString(c, "\x81\x04last\x88\x02\x03\xf4")
		_, _ = io.Copy(io.Discard, c)
	}))
	defer upstream.Close()
	r := start(t, "[upstream.u]\nurls = [\""+upstream.URL+"\"]\n[[route]]\nupstream = \"u\"\n")
	idle, err := net.Dial("tcp", r.g.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-asked
		r.g.setDraining() // as drain begins
		close(answer)
		for len(r.g.open()) == 0 {
			runtime.Gosched()
		}
		r.stop()
	}()
	c := r.ws("/ws")
	_, _ = io.Copy(io.Discard, idle) // dismissed when all tunnels were told
	close(last)
	if _, msg, err := c.Read(t.Context()); string(msg) != "last" {
		t.Errorf("%q %v", msg, err)
	}
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != 1012 {
		t.Errorf("the tunnel ended with %v", err)
	}
	<-stopped
}

// What a drain leaves over is told: a stream that goes on, a tunnel whose client
// does not take its close.
func TestWhatADrainLeavesOverIsTold(t *testing.T) {
	for what, c := range map[string]struct {
		begin func(*rig) io.Closer
		want  string
	}{
		"a stream": {func(r *rig) io.Closer {
			res, err := http.Get(r.base + "/events?rate=20&count=1000000")
			if err != nil {
				t.Fatal(err)
			}
			return res.Body
		}, `"tunnels":0,"requests":1`},
		"a tunnel": {func(r *rig) io.Closer {
			c, res := raw(t, r, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
			if res.StatusCode != http.StatusSwitchingProtocols {
				t.Fatal(res.Status)
			}
			return c
		}, `"tunnels":1,"requests":0`},
	} {
		t.Run(what, func(t *testing.T) {
			r := start(t, plainRoute)
			r.reload(`drain_timeout = "2s"`, `drain_timeout = "50ms"`, plainRoute)
			client := c.begin(r)
			stopped := make(chan struct{})
			go func() { r.stop(); close(stopped) }()
			until(t, "the drain is over", func() bool { return strings.Contains(r.logs.String(), "drain_timeout passed") })
			_ = client.Close()
			<-stopped
			if logs := r.logs.String(); !strings.Contains(logs, c.want) || strings.Contains(logs, `"msg":"drained"`) {
				t.Errorf("want %s in %s", c.want, logs)
			}
		})
	}
}

// However short a drain is, clients are told to wait: hints have milliseconds.
func TestAHintIsNeverAtOnce(t *testing.T) {
	var g Gateway
	g.current.Store(&generation{cfg: &config.Config{Server: config.Server{DrainTimeout: time.Millisecond}}})
	for range 100 {
		if ms := g.retryHint().Milliseconds(); ms < 1 {
			t.Fatalf("%d ms", ms)
		}
	}
}
