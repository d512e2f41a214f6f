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

// frame reads one unmasked frame.
func (c *raw) frame() (b0 byte, payload string) {
	c.t.Helper()
	var h [2]byte
	if _, err := io.ReadFull(c.br, h[:]); err != nil {
		c.t.Fatalf("no frame: %v", err)
	}
	n := uint64(h[1] & 0x7f)
	switch n {
	case 126:
		var l [2]byte
		_, _ = io.ReadFull(c.br, l[:])
		n = uint64(binary.BigEndian.Uint16(l[:]))
	case 127:
		var l [8]byte
		_, _ = io.ReadFull(c.br, l[:])
		n = binary.BigEndian.Uint64(l[:])
	}
	if h[1]&0x80 != 0 {
		c.t.Fatal("a masked frame to a client")
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c.br, b); err != nil {
		c.t.Fatalf("half a frame: %v", err)
	}
	return h[0], string(b)
}

// socket opens a WebSocket without a library.
func (g *gateway) socket(t *testing.T, target string) *raw {
	t.Helper()
	c := dialRaw(t, g.addr)
	c.send(upgrade(target))
	if resp := c.head("GET"); resp.StatusCode != 101 {
		t.Fatal(resp.Status)
	}
	return c
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

// RFC 6455 §5: what breaks it ends the tunnel with 1002, on both sides.
func TestBrokenFrames(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(nil)
	g := start(t, settings{urls: s.url})
	for name, broken := range map[string]string{
		"a reserved bit":           frame(0xC1, true, "x"),
		"a reserved opcode":        frame(0x83, true, "x"),
		"a long control frame":     frame(0x89, true, strings.Repeat("x", 126)),
		"a fragmented ping":        frame(0x09, true, "x"),
		"no mask":                  frame(0x81, false, "x"),
		"continuation of nothing":  frame(0x80, true, "x"),
		"a message within another": frame(0x01, true, "x") + frame(0x81, true, "y"),
		"a length of 2^63":         frameOf(0x81, true, 1<<63, "x"),
		"a close of one byte":      frame(0x88, true, "x"),
		"a close with 1005":        frame(0x88, true, "\x03\xed"),
		"a close with 1006":        frame(0x88, true, "\x03\xee"),
		"a close with 999":         frame(0x88, true, "\x03\xe7"),
		"a length not the least":   "\x81\xfe\x00\x01\x00\x00\x00\x00x",
	} {
		c := g.socket(t, "/")
		up := s.accept()
		c.send(frame(0x81, true, "before") + broken)
		if got := up.message(); got != "before" {
			t.Errorf("%s: what came before it arrived as %q", name, got)
		}
		op, payload := c.frame()
		if op != 0x88 || len(payload) < 2 || binary.BigEndian.Uint16([]byte(payload)) != 1002 || !strings.HasPrefix(payload[2:], "protocol_error") {
			t.Errorf("%s: answered with %x %q", name, op, payload)
		}
		c.ended()
		if code, _ := up.closed(); code != 1002 {
			t.Errorf("%s: upstream was closed with %d", name, code)
		}
	}
}

func TestACloseReasonMustBeUTF8(t *testing.T) {
	t.Parallel()
	g := start(t, settings{})
	c := g.socket(t, "/ws")
	c.send(frame(0x88, true, "\x03\xe8\xff\xfe"))
	op, payload := c.frame()
	if op != 0x88 || len(payload) < 2 {
		t.Fatalf("%x %q", op, payload)
	}
	if code := binary.BigEndian.Uint16([]byte(payload)); code != 1007 && code != 1002 {
		t.Errorf("closed with %d", code)
	}
}

// An upstream that breaks the protocol is no better off.
func TestAnUpstreamThatMasks(t *testing.T) {
	t.Parallel()
	url := backend(t, func(c *raw) {
		head := c.request()
		if head == "" {
			return
		}
		c.send(accept(head) + frame(0x81, true, "masked"))
		_, _ = io.Copy(io.Discard, c.br)
	})
	n := startNode(t)
	g := start(t, settings{urls: url})
	if code, reason := n.dial(g.ws("/"), nil).closed(); code != 1002 && code != 1011 && code != 1014 {
		t.Errorf("client was closed with %d %q", code, reason)
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
