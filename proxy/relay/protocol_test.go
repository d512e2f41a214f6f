package relay

import (
	"strings"
	"testing"

	"weir/proxy/wsframe"
)

// breaches are what RFC 6455 forbids; bytes are as the peer p sends them.
var breaches = []struct {
	name  string
	bytes func(p *peer) []byte
	code  uint16
}{
	{"reserved bit 1", func(p *peer) []byte { return flip(p.frame(true, wsframe.Text, "x"), 0, 0x40) }, 1002},
	{"reserved bit 2", func(p *peer) []byte { return flip(p.frame(true, wsframe.Text, "x"), 0, 0x20) }, 1002},
	{"reserved bit 3 on a ping", func(p *peer) []byte { return flip(p.frame(true, wsframe.Ping, "x"), 0, 0x10) }, 1002},
	{"opcode 3", func(p *peer) []byte { return p.frame(true, 3, "x") }, 1002},
	{"opcode 7", func(p *peer) []byte { return p.frame(true, 7, "x") }, 1002},
	{"opcode 11", func(p *peer) []byte { return p.frame(true, 11, "") }, 1002},
	{"opcode 15", func(p *peer) []byte { return p.frame(true, 15, "") }, 1002},
	{"a ping of 126 bytes", func(p *peer) []byte { return p.frame(true, wsframe.Ping, strings.Repeat("x", 126)) }, 1002},
	{"a close of 126 bytes", func(p *peer) []byte { return p.frame(true, wsframe.Close, "\x03\xe8"+strings.Repeat("x", 124)) }, 1002},
	{"a ping that declares 2^62 bytes", func(p *peer) []byte {
		return wsframe.AppendHeader(nil, wsframe.Header{Fin: true, Opcode: wsframe.Ping, Length: 1 << 62, Masked: p.mask != nil})
	}, 1002},
	{"a fragmented ping", func(p *peer) []byte { return p.frame(false, wsframe.Ping, "x") }, 1002},
	{"a fragmented close", func(p *peer) []byte { return p.frame(false, wsframe.Close, "\x03\xe8") }, 1002},
	{"the other side's masking", func(p *peer) []byte {
		other := &peer{mask: &[4]byte{1, 2, 3, 4}}
		if p.mask != nil {
			other.mask = nil
		}
		return other.frame(true, wsframe.Text, "x")
	}, 1002},
	{"the other side's masking on a ping", func(p *peer) []byte { return flip(p.frame(true, wsframe.Ping, "xxxx"), 1, 0x80) }, 1002},
	{"a continuation without a start", func(p *peer) []byte { return p.frame(true, wsframe.Continuation, "x") }, 1002},
	{"a continuation behind an end", func(p *peer) []byte {
		return append(p.frame(false, wsframe.Text, "x"), append(p.frame(true, wsframe.Continuation, "y"), p.frame(false, wsframe.Continuation, "z")...)...)
	}, 1002},
	{"text inside a fragmented message", func(p *peer) []byte {
		return append(p.frame(false, wsframe.Text, "x"), p.frame(true, wsframe.Text, "y")...)
	}, 1002},
	{"binary inside a fragmented message", func(p *peer) []byte {
		return append(p.frame(false, wsframe.Text, "x"), p.frame(false, wsframe.Binary, "y")...)
	}, 1002},
	{"text inside a refused message", func(p *peer) []byte {
		return append(p.frame(false, wsframe.Text, strings.Repeat("x", 1001)), p.frame(true, wsframe.Text, "y")...)
	}, 1002},
	{"125 bytes in a 16-bit length", func(p *peer) []byte { return length(p, 126, 0, 125) }, 1002},
	{"0 bytes in a 16-bit length", func(p *peer) []byte { return length(p, 126, 0, 0) }, 1002},
	{"65535 bytes in a 64-bit length", func(p *peer) []byte { return length(p, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF) }, 1002},
	{"bit 63 of the length", func(p *peer) []byte { return length(p, 127, 0x80, 0, 0, 0, 0, 0, 0, 0) }, 1002},
	{"a close payload of 1 byte", func(p *peer) []byte { return p.frame(true, wsframe.Close, "\x03") }, 1002},
	{"close 999", closing(999), 1002},
	{"close 1004", closing(1004), 1002},
	{"close 1005", closing(1005), 1002},
	{"close 1006", closing(1006), 1002},
	{"close 1015", closing(1015), 1002},
	{"close 2999", closing(2999), 1002},
	{"close 5000", closing(5000), 1002},
	{"close 0", closing(0), 1002},
	{"a close reason that is not UTF-8", func(p *peer) []byte { return p.frame(true, wsframe.Close, "\x03\xe8\xff\xfe") }, 1007},
}

func flip(b []byte, at int, bits byte) []byte {
	b[at] ^= bits
	return b
}

func length(p *peer, seven byte, more ...byte) []byte {
	if p.mask != nil {
		seven |= 0x80
	}
	return append([]byte{0x82, seven}, more...)
}

func closing(code uint16) func(p *peer) []byte {
	return func(p *peer) []byte { return p.frame(true, wsframe.Close, string([]byte{byte(code >> 8), byte(code)})) }
}

// A peer that breaks the protocol ends the tunnel: both legs are told why, and
// what it said before is delivered.
func TestProtocolBreaches(t *testing.T) {
	for _, c := range breaches {
		for way, name := range []string{"by the client", "by the upstream"} {
			t.Run(c.name+" "+name, func(t *testing.T) {
				inTunnel(t, func(r *rig) {
					from, to := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
					from.raw(append(from.frame(true, wsframe.Text, "before"), c.bytes(from)...))
					from.raw(from.frame(true, wsframe.Text, "behind"))
					to.expect("before")
					for _, p := range []*peer{from, to} {
						g, err := p.next()
						if strings.HasPrefix(c.name, "text inside a refused") && g.op == wsframe.Text {
							g, err = p.next() // was told that its message is refused
						}
						switch {
						case strings.HasPrefix(c.name, "a continuation behind") && g.op == wsframe.Text:
							p.next()
							g, err = p.next()
						}
						code, reason, bad := wsframe.ParseClose([]byte(g.payload))
						if err != nil || g.op != wsframe.Close || bad != nil || code != c.code || !strings.HasPrefix(reason, "protocol_error: ") || !strings.Contains(reason, "RFC 6455") {
							t.Errorf("%s received %v, %v; want close %d with the breach", p.name, g, err, c.code)
						}
					}
					<-r.ended
					if n := r.metric("weir_faults_total", "protocol_error"); n != 1 {
						t.Errorf("%v faults counted, want 1", n)
					}
				}, maxMessage(1000))
			})
		}
	}
}

// Whoever closes first, code and reason arrive at the other side, and its
// answer comes back; nothing is sent behind a close frame.
func TestCloseHandshake(t *testing.T) {
	for _, c := range []struct {
		code   uint16
		reason string
	}{{1000, "done"}, {1001, ""}, {1012, "restart"}, {3000, "x"}, {4999, strings.Repeat("r", 123)}, {1005, ""}} {
		for way := range 2 {
			inTunnel(t, func(r *rig) {
				from, to := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
				from.send("last")
				from.close(c.code, c.reason)
				to.expect("last")
				to.expectFrame(got{wsframe.Close, true, closePayload(c.code, c.reason)})
				to.send("still in flight") // RFC 6455 §5.5.1 lets the peer finish
				from.expect("still in flight")
				to.close(c.code, "bye")
				if c.code == 1005 {
					from.expectFrame(got{wsframe.Close, true, ""})
				} else {
					from.closed(c.code, "bye")
				}
				<-r.ended
				who := []string{"client", "upstream"}[way]
				if n := r.metric("weir_ws_closes_total", closeLabel(c.code), who); n != 1 {
					t.Errorf("close %d by %s is not counted: %s", c.code, who, r.log)
				}
			})
		}
	}
}

func closeLabel(code uint16) string {
	switch {
	case code >= 4000:
		return "4xxx"
	case code >= 3000:
		return "3xxx"
	}
	return "1" + string([]byte{'0' + byte(code/100%10), '0' + byte(code/10%10), '0' + byte(code%10)})
}

func closePayload(code uint16, reason string) string {
	if code == 1005 {
		return ""
	}
	return string([]byte{byte(code >> 8), byte(code)}) + reason
}

// Both close at once: each gets the other's close frame, and no second one.
func TestSimultaneousClose(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.c.close(1000, "client")
		r.u.close(1001, "upstream")
		r.c.closed(1001, "upstream")
		r.u.closed(1000, "client")
		<-r.ended
	})
}

// A peer that never answers a close is waited for, for 5 seconds.
func TestCloseWithoutAnswer(t *testing.T) {
	for way := range 2 {
		inTunnel(t, func(r *rig) {
			from, to := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
			from.close(4000, "leaving")
			to.expectFrame(got{wsframe.Close, true, closePayload(4000, "leaving")})
			sleep(4900)
			from.silent()
			sleep(200)
			from.closed(4000, "leaving")
			if g, err := to.next(); err == nil {
				t.Errorf("%s received %v behind a close frame", to.name, g)
			}
			sleep(1100)
			<-r.ended
		})
	}
}

// A peer that ends its connection instead of answering a close has answered.
func TestCloseAnsweredByTheEnd(t *testing.T) {
	for way := range 2 {
		inTunnel(t, func(r *rig) {
			from, to := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
			from.close(1000, "done")
			to.expectFrame(got{wsframe.Close, true, closePayload(1000, "done")})
			to.end()
			from.closed(1000, "done")
		})
	}
}

// Nothing that Weir itself has to say follows a close frame.
func TestNothingBehindAClose(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.u.close(1000, "done")
		r.c.expectFrame(got{wsframe.Close, true, closePayload(1000, "done")})
		r.c.send(strings.Repeat("x", 1001)) // refused, and nobody is told any more
		r.c.send("last")
		r.u.expect("last")
		r.Shed()
		r.Drain(0)
		r.u.closed(1000, "done")
		if g, err := r.c.next(); err == nil {
			t.Errorf("client received %v behind a close frame", g)
		}
	}, maxMessage(1000))
}
