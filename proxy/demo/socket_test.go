package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// dial opens a WebSocket to the backend and closes it with the test.
func dial(t *testing.T, addr, target string, protocols ...string) (*websocket.Conn, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	c, _, err := websocket.Dial(ctx, "ws://"+addr+target, &websocket.DialOptions{Subprotocols: protocols})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	c.SetReadLimit(64 << 20)
	return c, ctx
}

func read(t *testing.T, ctx context.Context, c *websocket.Conn) (websocket.MessageType, []byte) {
	t.Helper()
	op, b, err := c.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return op, b
}

func write(t *testing.T, ctx context.Context, c *websocket.Conn, op websocket.MessageType, b string) {
	t.Helper()
	if err := c.Write(ctx, op, []byte(b)); err != nil {
		t.Fatal(err)
	}
}

func TestEchoIsVerbatim(t *testing.T) {
	c, ctx := dial(t, start(t), "/ws")
	for _, msg := range []struct {
		op   websocket.MessageType
		text string
	}{
		{websocket.MessageText, ""},
		{websocket.MessageText, "hello"},
		{websocket.MessageText, `{"type":"message","text":"streams"}`},
		{websocket.MessageText, `{"type":"stream"`}, // not JSON: nothing to obey
		{websocket.MessageBinary, `{"type":"stop"}`},
		{websocket.MessageText, strings.Repeat("x", 1<<20)},
		{websocket.MessageBinary, "\x00\xff"},
	} {
		write(t, ctx, c, msg.op, msg.text)
		if op, b := read(t, ctx, c); op != msg.op || string(b) != msg.text {
			t.Errorf("sent %v %.40q, got %v %.40q", msg.op, msg.text, op, b)
		}
	}
}

func TestHandshakeTakesTheFirstSubprotocol(t *testing.T) {
	addr := start(t)
	for _, c := range []struct {
		offer []string
		want  string
	}{{nil, ""}, {[]string{"a"}, "a"}, {[]string{"weir.v1", "b"}, "weir.v1"}} {
		ws, _ := dial(t, addr, "/ws", c.offer...)
		if got := ws.Subprotocol(); got != c.want {
			t.Errorf("offered %q, got %q, want %q", c.offer, got, c.want)
		}
	}
}

func TestPing(t *testing.T) {
	c, ctx := dial(t, start(t), "/ws")
	ctx = c.CloseRead(ctx)
	if err := c.Ping(ctx); err != nil {
		t.Error(err)
	}
}

func TestCloseIsEchoed(t *testing.T) {
	c, ctx := dial(t, start(t), "/ws")
	if err := c.Close(4321, "enough"); err != nil {
		t.Error("the closing handshake:", err)
	}
	_, _, err := c.Read(ctx)
	var ce websocket.CloseError
	if errors.As(err, &ce) && (ce.Code != 4321 || ce.Reason != "enough") {
		t.Errorf("%v", err)
	}
}

// event is any of the events and answers of the backend.
type event struct {
	Type     string
	Seq      int64
	Sent     int64
	Messages int64
	Error    struct{ Code, Message string }
}

func next(t *testing.T, ctx context.Context, c *websocket.Conn) event {
	t.Helper()
	_, b := read(t, ctx, c)
	var e event
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatalf("%v: %.80s", err, b)
	}
	return e
}

func TestStreamUntilStopped(t *testing.T) {
	addr := start(t)
	for _, target := range []string{"/ws", "/ws?rate=2000&size=200"} {
		c, ctx := dial(t, addr, target)
		if target == "/ws" {
			write(t, ctx, c, websocket.MessageText, `{"type":"stream","rate":2000,"size":128,"mix":{"message":1,"presence":3}}`)
		}
		var events, seq int64
		for {
			e := next(t, ctx, c)
			if e.Type == "stopped" {
				if e.Sent != events || e.Messages != seq {
					t.Errorf("%s: %d events and %d messages came, it says %+v", target, events, seq, e)
				}
				break
			}
			events++
			if e.Type == "message" {
				if seq++; e.Seq != seq {
					t.Fatalf("%s: seq %d, want %d", target, e.Seq, seq)
				}
			}
			if events == 100 {
				write(t, ctx, c, websocket.MessageText, `{"type":"stop"}`)
			}
		}
		write(t, ctx, c, websocket.MessageText, `{"type":"stop"}`)
		if e := next(t, ctx, c); e.Type != "stopped" || e.Sent != 0 {
			t.Errorf("%s: a second stop: %+v", target, e)
		}
		write(t, ctx, c, websocket.MessageText, "still here")
		if _, b := read(t, ctx, c); string(b) != "still here" {
			t.Errorf("%s: after the stream: %q", target, b)
		}
	}
}

func TestStreamForSeconds(t *testing.T) {
	c, ctx := dial(t, start(t), "/ws")
	write(t, ctx, c, websocket.MessageText, `{"type":"stream","rate":50,"seconds":1}`)
	for n := int64(0); ; n++ {
		if e := next(t, ctx, c); e.Type == "stopped" {
			if e.Sent != n || n > 51 {
				t.Errorf("%d events came in a second, it says %d", n, e.Sent)
			}
			return
		}
	}
}

func TestBadStreamsAreAnswered(t *testing.T) {
	c, ctx := dial(t, start(t), "/ws")
	for cmd, want := range map[string]string{
		`{"type":"stream","rate":0}`:              "rate 0 is not between 1 and 50000",
		`{"type":"stream","rate":"fast"}`:         "cannot unmarshal",
		`{"type":"stream","mix":{"nonsense":1}}`:  `mix names "nonsense"`,
		`{"type":"stream","rate":9,"seconds":-1}`: "seconds -1 is not between",
	} {
		write(t, ctx, c, websocket.MessageText, cmd)
		if e := next(t, ctx, c); e.Type != "error" || !strings.Contains(e.Error.Message, want) {
			t.Errorf("%s: %+v, want %q", cmd, e, want)
		}
	}
}

func TestCloseCutsSockets(t *testing.T) {
	for _, target := range []string{"/ws", "/ws?rate=50000&size=65536"} { // idle, and stuck in a write
		d, err := Start(slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
		c, ctx := dial(t, d.Addr(), target)
		if target != "/ws" {
			read(t, ctx, c) // and no further
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		for err == nil {
			_, _, err = c.Read(ctx)
		}
		if ctx.Err() != nil {
			t.Errorf("%s: the socket stays open", target)
		}
	}
}

func TestPageIsSelfContained(t *testing.T) {
	for _, foreign := range []string{`src="http`, `href="http`, "@import", "url(http"} {
		if bytes.Contains(page, []byte(foreign)) {
			t.Errorf("the page has %s", foreign)
		}
	}
}

func TestALargeMessageIsNotKept(t *testing.T) {
	addr := start(t)
	inUse := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const size, sockets = 2 << 20, 8
	before := inUse()
	for range sockets {
		c, ctx := dial(t, addr, "/ws")
		write(t, ctx, c, websocket.MessageBinary, strings.Repeat("x", size))
		if _, b := read(t, ctx, c); len(b) != size {
			t.Errorf("%d bytes came back", len(b))
		}
	}
	over := time.After(10 * time.Second)
	for inUse() > before+sockets*size/2 {
		select {
		case <-over:
			t.Fatalf("%d sockets that say nothing hold %d MiB", sockets, (inUse()-before)>>20)
		default:
		}
	}
}
