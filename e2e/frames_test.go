//go:build e2e

package e2e

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
)

// problem is Weir's native envelope over HTTP.
type problem struct {
	Type, Title, Detail, Code string
	Status                    int
	Retryable                 bool
	RetryAfterMS              int64 `json:"retry_after_ms"`
	Limit, Actual             int64
	TraceID                   string `json:"trace_id"`
}

func decodeProblem(t *testing.T, body string) (p problem) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return p
}

// wsError is Weir's native envelope on a WebSocket.
type wsError struct {
	Type  string
	Error struct {
		Code, Message string
		Retryable     bool
		Limit, Actual int64
		TraceID       string `json:"trace_id"`
	}
}

func decodeError(t *testing.T, text string) (e wsError) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &e); err != nil || e.Type != "error" {
		t.Fatalf("%q is no envelope: %v", text, err)
	}
	return e
}

// upgrade is a handshake, byte by byte.
func upgrade(target string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
}

// frame is one frame with the first byte b0; a client's is masked.
func frame(b0 byte, masked bool, payload string) string {
	return frameOf(b0, masked, uint64(len(payload)), payload)
}

// frameOf is a frame whose header declares n bytes.
func frameOf(b0 byte, masked bool, n uint64, payload string) string {
	b := []byte{b0, 0}
	switch {
	case n < 126:
		b[1] = byte(n)
	case n < 1<<16:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, n)
	}
	if masked {
		b[1] |= 0x80
		b = append(b, 0, 0, 0, 0) // a mask that changes nothing
	}
	return string(b) + payload
}

// frame reads one frame that is not masked.
func (c *raw) frame() (b0 byte, payload string) {
	c.t.Helper()
	b0, masked, payload, err := c.anyFrame()
	if err != nil || masked {
		c.t.Fatalf("%x %.60q, masked %v, %v", b0, payload, masked, err)
	}
	return b0, payload
}

// anyFrame reads one frame, and unmasks it.
func (c *raw) anyFrame() (b0 byte, masked bool, payload string, err error) {
	var h [2]byte
	if _, err := io.ReadFull(c.br, h[:]); err != nil {
		return 0, false, "", fmt.Errorf("no frame: %w", err)
	}
	n := uint64(h[1] & 0x7f)
	var l [8]byte
	switch n {
	case 126:
		_, err = io.ReadFull(c.br, l[6:])
	case 127:
		_, err = io.ReadFull(c.br, l[:])
	}
	if n > 125 {
		n = binary.BigEndian.Uint64(l[:])
	}
	var mask [4]byte
	if masked = h[1]&0x80 != 0; masked && err == nil {
		_, err = io.ReadFull(c.br, mask[:])
	}
	if err != nil || n > 1<<30 {
		return h[0], masked, "", fmt.Errorf("a frame of %d bytes: %w", n, err)
	}
	b := make([]byte, n)
	if _, err = io.ReadFull(c.br, b); err != nil {
		return h[0], masked, "", fmt.Errorf("half a frame: %w", err)
	}
	for i := range b {
		b[i] ^= mask[i%4]
	}
	return h[0], masked, string(b), nil
}

// socket opens a WebSocket without a library.
func (g *gateway) socket(t *testing.T, target string) *raw {
	t.Helper()
	c := dialRaw(t, g.addr)
	c.upgrade(target)
	return c
}

// upgrade makes a WebSocket of a connection.
func (c *raw) upgrade(target string) {
	c.t.Helper()
	c.send(upgrade(target))
	if resp := c.head("GET"); resp.StatusCode != 101 {
		c.t.Fatal(resp.Status)
	}
}

func TestFragmentedMessagesArriveWhole(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(nil)
	g := start(t, settings{urls: s.url})
	c, up := n.pair(g, s, nil)
	c.do("fragments", args{"parts": []string{"one ", "two ", "", "three"}})
	if got := up.message(); got != "one two three" {
		t.Errorf("upstream got %q", got)
	}
	up.do("fragments", args{"parts": []string{strings.Repeat("a", 300_000), strings.Repeat("b", 300_000)}})
	if e := c.next("message"); e.Size != 600_000 {
		t.Errorf("client got %d bytes", e.Size)
	}
	// A ping between fragments passes at once.
	c.do("fragment", args{"text": "half "})
	c.do("ping", args{"text": "between"})
	if e := up.next("ping"); e.Text != "between" {
		t.Errorf("%v", e)
	}
	if e := c.next("pong"); e.Text != "between" {
		t.Errorf("%v", e)
	}
	c.do("fragment", args{"text": "done", "fin": true})
	if got := up.message(); got != "half done" {
		t.Errorf("upstream got %q", got)
	}
}

func TestPingsAndPongsPassBothWays(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(args{"autoPong": false})
	g := start(t, settings{urls: s.url})
	c, up := n.pair(g, s, args{"autoPong": false})
	c.do("ping", args{"text": "from the client"})
	if e := up.next("ping"); e.Text != "from the client" {
		t.Errorf("%v", e)
	}
	up.do("pong", args{"text": "from the client"})
	if e := c.next("pong"); e.Text != "from the client" {
		t.Errorf("%v", e)
	}
	up.do("ping", args{"text": "from upstream"})
	if e := c.next("ping"); e.Text != "from upstream" {
		t.Errorf("%v", e)
	}
	c.do("pong", args{"text": "unasked"})
	if e := up.next("pong"); e.Text != "unasked" {
		t.Errorf("%v", e)
	}
}

func TestCloseCodesAndReasonsAreCarried(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(nil)
	g := start(t, settings{urls: s.url})
	for _, c := range []struct {
		code   int
		reason string
	}{{1000, "done"}, {1001, ""}, {1011, "ünexpected"}, {3000, strings.Repeat("r", 123)}, {4999, "ours"}} {
		closing := args{"code": c.code, "text": c.reason}
		for _, who := range []string{"client", "upstream"} {
			cl, up := n.pair(g, s, nil)
			first, second := cl, up
			if who == "upstream" {
				first, second = up, cl
			}
			first.do("close", closing)
			if code, reason := second.closed(); code != c.code || reason != c.reason {
				t.Errorf("%s closed with %d %q, the other got %d %q", who, c.code, c.reason, code, reason)
			}
			if code, _ := first.closed(); code != c.code {
				t.Errorf("%s closed with %d and got %d back", who, c.code, code)
			}
		}
	}
	// A close frame without a code stays one.
	cl, up := n.pair(g, s, nil)
	cl.do("close", nil)
	if code, _ := up.closed(); code != 1005 {
		t.Errorf("upstream got %d", code)
	}
	if code, _ := cl.closed(); code != 1005 {
		t.Errorf("client got %d back", code)
	}
	for _, who := range []string{"client", "upstream"} {
		g.logs.waitFor("a close", 1, "msg=closed", "code=4999", "reason=ours", "initiator="+who)
	}
}

// Ten thousand messages of every size up to 70 kB arrive in order and unchanged.
func TestManySizesInOrder(t *testing.T) {
	t.Parallel()
	g := start(t, settings{})
	c := dialGo(t, g.ws("/ws"), nil)
	text := func(i int) string {
		size := (i * 7919) % 70_000
		return fmt.Sprintf("%d:%s", i, strings.Repeat(string(rune('a'+i%26)), size))
	}
	const count = 2000
	go func() {
		for i := range count {
			writeGo(t, c, text(i))
		}
	}()
	for i := range count {
		if got, want := readGo(t, c), text(i); got != want {
			t.Fatalf("message %d: %d bytes %.20q, want %d bytes %.20q", i, len(got), got, len(want), want)
		}
	}
}
