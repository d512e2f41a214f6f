//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

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

// Frames go on as they came: the same bytes, the same masks, the same cuts.
func TestFramesAreForwardedVerbatim(t *testing.T) {
	t.Parallel()
	url, conns := socketBackend(t)
	g := start(t, settings{urls: url})
	c := g.socket(t, "/")
	up := receive(t, "the upstream", conns)
	masked := "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58" + // RFC 6455 §5.7: "Hello"
		"\x01\x83\x01\x02\x03\x04\x49\x67\x6f" + "\x89\x80\x05\x06\x07\x08" + "\x80\x82\x11\x12\x13\x14\x7d\x7d" + // "Hel", a ping, "lo"
		"\x82\x80\x09\x0a\x0b\x0c"
	c.send(masked)
	got := make([]byte, len(masked))
	if _, err := io.ReadFull(up.br, got); err != nil {
		t.Fatal(err)
	}
	// A ping between fragments passes at once, before the message that is held.
	want := masked[:11] + "\x89\x80\x05\x06\x07\x08" + masked[11:20] + masked[26:]
	if string(got) != want && string(got) != masked {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	plain := frame(0x81, false, "Hello") + frame(0x02, false, "a") + frame(0x80, false, "") + frame(0x82, false, strings.Repeat("x", 300))
	up.send(plain)
	got = make([]byte, len(plain))
	if _, err := io.ReadFull(c.br, got); err != nil || string(got) != plain {
		t.Errorf("got  %x, %v\nwant %x", got, err, plain)
	}
}

// A large message is upstream before its end is sent, and a client that dies
// within one never makes it look whole.
func TestALargeMessagePassesAsItComes(t *testing.T) {
	t.Parallel()
	url, conns := socketBackend(t)
	g := start(t, settings{urls: url})
	c := g.socket(t, "/")
	up := receive(t, "the upstream", conns)
	const size, half = 8 << 20, 4 << 20
	whole := frameOf(0x82, true, size, strings.Repeat("x", size))
	go func() { // ends with the connection
		_, _ = io.WriteString(c, whole[:half])
	}()
	got := make([]byte, half-(64<<10))
	if _, err := io.ReadFull(up.br, got); err != nil || string(got) != whole[:len(got)] {
		t.Fatalf("half of a message that is not complete: %v", err)
	}
	c.Close()
	rest, _ := io.ReadAll(up.br)
	if len(got)+len(rest) > half {
		t.Errorf("%d bytes of a message of which %d were sent: %q", len(got)+len(rest), half, rest[max(0, len(rest)-60):])
	}
	g.logs.wait("the close", "msg=closed", "initiator=client")
}
