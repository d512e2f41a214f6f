package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

// However often it is asked for, shedding begins at once and then keeps its
// pauses, in which what is asked is not lost.
func TestSheddingIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Gateway{pressure: make(chan struct{}, 1)}
		stop, ended := make(chan struct{}), make(chan struct{})
		var passes []time.Duration
		began := time.Now()
		go func() {
			defer close(ended)
			paced(g.pressure, stop, 5*time.Millisecond, func() { passes = append(passes, time.Since(began)) })
		}()
		for range 12 {
			g.askForShedding()
			g.askForShedding()
			time.Sleep(time.Millisecond) // of the bubble
		}
		time.Sleep(time.Second)
		close(stop)
		<-ended
		want := []time.Duration{0, 5 * time.Millisecond, 10 * time.Millisecond, 15 * time.Millisecond}
		if len(passes) != len(want) {
			t.Fatalf("passes at %v, want %v", passes, want)
		}
		for i := range want {
			if passes[i] != want[i] {
				t.Errorf("passes at %v, want %v", passes, want)
			}
		}
	})
}

// A route whose own max_memory is full has no other's messages shed, where there is
// memory; the process's has everybody's.
func TestAFullRouteShedsItsOwn(t *testing.T) {
	var enough atomic.Bool
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		c, err := websocket.Accept(w, req, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		m := []byte(`{"type":"presence","pad":"` + strings.Repeat("x", 1000) + `"}`)
		for !enough.Load() && c.Write(req.Context(), websocket.MessageText, m) == nil {
		}
		_, _, _ = c.Read(req.Context()) // until it is over
	}))
	defer up.Close()
	r := start(t, fmt.Sprintf(`
[limits]
slow_consumer_grace = "10m"
[policy.p]
module = "{{module}}"
config = { droppable = ["presence"] }
[upstream.u]
urls = [%q]
[[route]]
name = "mine"
path = "/mine"
upstream = "u"
policy = "p"
[[route]]
name = "full"
upstream = "u"
limits = { max_memory = "1MiB" }
`, up.URL))
	r.g.mu.Lock()
	mine, full := r.g.routes["mine"].relay.Memory, r.g.routes["full"].relay.Memory
	r.g.mu.Unlock()
	r.ws("/mine") // is not read
	until(t, "the queue to be full", func() bool { return mine.Used() > 900<<10 })
	enough.Store(true)
	if !full.Reserve(1 << 20) {
		t.Fatal("no room")
	}
	r.g.shedAll()
	if n := mine.Used(); n < 900<<10 {
		t.Errorf("%d bytes wait beside a route that is full", n)
	}
	full.Release(1 << 20)
	over := full.Want(2 << 20)
	r.g.shedAll()
	if n := mine.Used(); n < 900<<10 {
		t.Errorf("%d bytes wait beside a route whose memory is waited for", n)
	}
	over()
	over = r.g.memory.Want(r.g.memory.Max())
	r.g.shedAll()
	if n := mine.Used(); n > 100<<10 {
		t.Errorf("%d bytes wait where the process has no memory", n)
	}
	over()
}
