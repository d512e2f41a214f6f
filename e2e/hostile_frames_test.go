//go:build e2e

package e2e

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// pair is a tunnel of which both ends are the test's.
type pair struct{ client, upstream *raw }

// pair opens a tunnel to an upstream of socketBackend's.
func (b *siege) pair(t *testing.T, conns <-chan *raw) pair {
	t.Helper()
	c := b.socket(t, "/")
	up := receive(t, "the upstream", conns)
	up.t = t
	return pair{c, up}
}

// ends are both ends in the order of who attacks, and whether that one masks.
func (p pair) ends(way int) (from, to *raw, masked bool) {
	if way == 0 {
		return p.client, p.upstream, true
	}
	return p.upstream, p.client, false
}

var sides = [2]string{"by the client", "by the upstream"}

// expect reads a message.
func (c *raw) expect(what, want string) {
	c.t.Helper()
	if op, _, got, err := c.anyFrame(); op != 0x81 || got != want || err != nil {
		c.t.Fatalf("%s: %x %.100q, %v; want %.100q", what, op, got, err, want)
	}
}

// closed reads a close frame with a code, and the end behind it.
func (c *raw) closed(what string, code uint16, reason string) {
	c.t.Helper()
	op, _, payload, err := c.anyFrame()
	if err != nil || op != 0x88 || len(payload) < 2 || binary.BigEndian.Uint16([]byte(payload)) != code || !strings.HasPrefix(payload[2:], reason) {
		c.t.Errorf("%s: %x %.200q, %v; want close %d %s", what, op, payload, err, code, reason)
		return
	}
	c.ended()
}

// gone closes the connection.
func (p pair) gone() {
	p.client.Close()
	p.upstream.Close()
}

func closing(code uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, code)) + reason
}

// brokenFrames is what RFC 6455 §5 and §7.4 forbid, as a peer sends it that
// masks or does not, and the code it earns.
var brokenFrames = []struct {
	name  string
	bytes func(masked bool) string
	code  uint16
}{
	{"reserved bit 1", first(0xC1, "x"), 1002},
	{"reserved bit 2", first(0xA1, "x"), 1002},
	{"reserved bit 3", first(0x91, "x"), 1002},
	{"all reserved bits on an empty binary", first(0xF2, ""), 1002},
	{"a reserved bit on a ping", first(0xC9, "x"), 1002},
	{"a reserved bit on a close", first(0xC8, "\x03\xe8"), 1002},
	{"opcode 3", first(0x83, "x"), 1002},
	{"opcode 4", first(0x84, "x"), 1002},
	{"opcode 5", first(0x85, "x"), 1002},
	{"opcode 6", first(0x86, "x"), 1002},
	{"opcode 7", first(0x87, ""), 1002},
	{"opcode 11", first(0x8B, "x"), 1002},
	{"opcode 12", first(0x8C, "x"), 1002},
	{"opcode 13", first(0x8D, ""), 1002},
	{"opcode 14", first(0x8E, "x"), 1002},
	{"opcode 15", first(0x8F, "x"), 1002},
	{"a fragmented ping", first(0x09, "x"), 1002},
	{"a fragmented pong", first(0x0A, "x"), 1002},
	{"a fragmented close", first(0x08, "\x03\xe8"), 1002},
	{"a ping of 126 bytes", first(0x89, strings.Repeat("x", 126)), 1002},
	{"a pong of 126 bytes", first(0x8A, strings.Repeat("x", 126)), 1002},
	{"a close of 126 bytes", first(0x88, "\x03\xe8"+strings.Repeat("x", 124)), 1002},
	{"a ping that declares 64 KiB", declared(0x89, 1<<16), 1002},
	{"a close that declares 2^63-1 bytes", declared(0x88, 1<<63-1), 1002},
	{"the other side's masking", func(masked bool) string { return frame(0x81, !masked, "x") }, 1002},
	{"the other side's masking on a ping", func(masked bool) string { return frame(0x89, !masked, "x") }, 1002},
	{"the other side's masking on an empty message", func(masked bool) string { return frame(0x81, !masked, "") }, 1002},
	{"a continuation of nothing", first(0x80, "x"), 1002},
	{"a first continuation of nothing", first(0x00, "x"), 1002},
	{"a message within a message", func(m bool) string { return frame(0x01, m, "x") + frame(0x81, m, "y") }, 1002},
	{"binary within text", func(m bool) string { return frame(0x01, m, "x") + frame(0x02, m, "y") }, 1002},
	{"text within a message that is refused", func(m bool) string { return frame(0x01, m, strings.Repeat("x", 70_000)) + frame(0x81, m, "y") }, 1002},
	{"5 written in 16 bits", func(m bool) string { return lengthAs(126, 5, m) }, 1002},
	{"125 written in 16 bits", func(m bool) string { return lengthAs(126, 125, m) }, 1002},
	{"0 written in 64 bits", func(m bool) string { return lengthAs(127, 0, m) }, 1002},
	{"65535 written in 64 bits", func(m bool) string { return lengthAs(127, 65535, m) }, 1002},
	{"2^63", declared(0x81, 1<<63), 1002},
	{"2^64-1", declared(0x82, 1<<64-1), 1002},
	{"2^64-1 in a fragment", declared(0x01, 1<<64-1), 1002},
	{"a close of one byte", first(0x88, "\x03"), 1002},
	{"close 0", first(0x88, closing(0, "")), 1002},
	{"close 1", first(0x88, closing(1, "")), 1002},
	{"close 999", first(0x88, closing(999, "")), 1002},
	{"close 1004", first(0x88, closing(1004, "")), 1002},
	{"close 1005", first(0x88, closing(1005, "")), 1002},
	{"close 1006", first(0x88, closing(1006, "why")), 1002},
	{"close 1015", first(0x88, closing(1015, "")), 1002},
	{"close 1016", first(0x88, closing(1016, "")), 1002},
	{"close 2000", first(0x88, closing(2000, "")), 1002},
	{"close 2999", first(0x88, closing(2999, "")), 1002},
	{"close 5000", first(0x88, closing(5000, "")), 1002},
	{"close 65535", first(0x88, closing(65535, "")), 1002},
	{"a close reason that is not UTF-8", first(0x88, closing(1000, "\xff\xfe")), 1007},
	{"a close reason cut in a character", first(0x88, closing(1000, "\xe2\x82")), 1007},
	{"text that is not UTF-8", first(0x81, "a\xffb"), 1007},
	{"text cut in a character", first(0x81, "\xf0\x9f\x98"), 1007},
	{"text with a surrogate", first(0x81, "\xed\xa0\x80"), 1007},
	{"overlong text", first(0x81, "\xc0\xaf"), 1007},
	{"text cut in a character at its last fragment", func(m bool) string {
		return frame(0x01, m, "\xe2") + frame(0x00, m, "\x82\xac\xe2") + frame(0x80, m, "\x82")
	}, 1007},
	{"a first fragment that is not UTF-8", first(0x01, "\xff"), 1007},
}

func first(b0 byte, payload string) func(bool) string {
	return func(masked bool) string { return frame(b0, masked, payload) }
}

func declared(b0 byte, n uint64) func(bool) string {
	return func(masked bool) string { return frameOf(b0, masked, n, "") }
}

// lengthAs is text of n bytes whose length is written in the form of mark.
func lengthAs(mark byte, n uint64, masked bool) string {
	b := []byte{0x81, mark}
	if b = binary.BigEndian.AppendUint64(b, n); mark == 126 {
		b = append(b[:2], b[8:]...)
	}
	if masked {
		b[1] |= 0x80
		b = append(b, 0, 0, 0, 0)
	}
	return string(b) + strings.Repeat("x", int(n))
}

// What breaks RFC 6455 ends its tunnel with a proper close on both sides, and
// what came before it is delivered.
func TestBrokenFrames(t *testing.T) {
	t.Parallel()
	url, conns := socketBackend(t)
	b := besiege(t, settings{native: true, urls: url, limits: "max_message_size = \"64KiB\"\nvalidate_utf8 = true"})
	for way, by := range sides {
		b.withstands("broken frames "+by, func(t *testing.T) {
			faults := b.metric(`weir_faults_total{code="protocol_error"}`)
			for _, c := range brokenFrames {
				p := b.pair(t, conns)
				from, to, masked := p.ends(way)
				from.send(frame(0x81, masked, "before"))
				to.expect(c.name, "before")
				from.send(c.bytes(masked) + frame(0x81, masked, "behind"))
				if strings.Contains(c.name, "refused") {
					if _, _, payload, _ := from.anyFrame(); !strings.Contains(payload, "payload_too_large") {
						t.Errorf("%s: told %q", c.name, payload)
					}
				}
				for _, end := range []*raw{from, to} {
					end.closed(c.name, c.code, "protocol_error: ")
				}
				p.gone()
				b.works("behind " + c.name)
			}
			if n := b.metric(`weir_faults_total{code="protocol_error"}`) - faults; int(n) != len(brokenFrames) {
				t.Errorf("%v faults counted for %d broken frames", n, len(brokenFrames))
			}
		})
	}
	for way, by := range sides {
		b.withstands("a large text that is not UTF-8 "+by, func(t *testing.T) {
			c := besieged(t, b, `max_message_size = "1MiB"`, "validate_utf8 = true")
			defer c()
			p := b.pair(t, conns)
			defer p.gone()
			from, to, masked := p.ends(way)
			from.send(frame(0x81, masked, strings.Repeat("€", 100_000)+"\xe2"+strings.Repeat("€", 100_000)))
			from.closed("its sender", 1007, "protocol_error: text message is not UTF-8")
			// Its receiver has the beginning of a message that will not end.
			if _, _, _, err := to.anyFrame(); err == nil || isTimeout(err) {
				t.Errorf("its receiver: %v", err)
			}
		})
	}
}

// A length is judged before its bytes come: what is above the limit is drained
// up to a bound, what declares more than that ends its tunnel.
func TestDeclaredLengths(t *testing.T) {
	t.Parallel()
	url, conns := socketBackend(t)
	const limit = 10_000
	b := besiege(t, settings{native: true, urls: url, limits: fmt.Sprintf("max_message_size = %d", limit)})
	for way, by := range sides {
		b.withstands("lengths declared "+by, func(t *testing.T) {
			for _, n := range []uint64{limit + 1, 1 << 16, 64 * limit} {
				p := b.pair(t, conns)
				from, to, masked := p.ends(way)
				from.send(frameOf(0x82, masked, n, strings.Repeat("x", 5000)))
				_, _, payload, _ := from.anyFrame() // before the rest is there
				if e := decodeError(t, payload); e.Error.Code != "payload_too_large" || e.Error.Limit != limit || e.Error.Actual != int64(n) {
					t.Errorf("%d bytes: told %s", n, payload)
				}
				from.send(strings.Repeat("x", int(n)-5000) + frame(0x81, masked, "next"))
				to.expect("behind what was refused", "next")
				p.gone()
			}
			for _, n := range []uint64{64*limit + 1, 1 << 32, 1 << 62, 1<<63 - 1} {
				for _, header := range []string{frameOf(0x81, way == 0, n, ""), frameOf(0x01, way == 0, n, ""), frame(0x01, way == 0, "x") + frameOf(0x00, way == 0, n, "")} {
					p := b.pair(t, conns)
					from, to, _ := p.ends(way)
					from.send(header + "some of it")
					for _, end := range []*raw{from, to} {
						end.closed(fmt.Sprint(n, " bytes declared"), 1009, "payload_too_large")
					}
					p.gone()
				}
			}
		})
	}
}
