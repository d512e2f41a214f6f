package relay

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/policy/policytest"
	"weir/proxy/wsframe"
)

func maxMessage(n int64) option {
	return with(func(l *config.Limits) { l.MaxMessageSize = n })
}

// sizes of messages above a ceiling of 4000, as frames of one message.
var tooLarge = []struct {
	name   string
	frames []int // payload lengths
	actual int64 // what is told: the sum when it first exceeds
	told   string
}{
	{"one byte above", []int{4001}, 4001, "4001"},
	{"larger than the buffer", []int{200_000}, 200_000, "200000"},
	{"two fragments", []int{2400, 1601}, 4001, "4001"},
	{"the first fragment", []int{5000, 10, 10}, 5000, "at least 5000"},
	{"many fragments", []int{1200, 1200, 1200, 1200, 1200, 1200}, 4800, "at least 4800"},
	{"a fragment larger than the buffer", []int{10, 100_000, 0}, 100_010, "at least 100010"},
	{"empty fragments behind", []int{4001, 0, 0, 0}, 4001, "at least 4001"},
}

func (p *peer) message(sizes []int) (frames [][]byte) {
	for i, n := range sizes {
		op := wsframe.Text
		if i > 0 {
			op = wsframe.Continuation
		}
		frames = append(frames, p.frame(i == len(sizes)-1, op, strings.Repeat("x", n)))
	}
	return frames
}

// A message above the ceiling is refused by its declared length and drained;
// its sender is told, the tunnel lives on and every other message arrives.
func TestCeiling(t *testing.T) {
	for _, c := range tooLarge {
		t.Run(c.name, func(t *testing.T) {
			inTunnel(t, func(r *rig) {
				for _, way := range r.ways() {
					from, to := way[0], way[1]
					from.send("before")
					from.raw(from.message(c.frames)...)
					from.send("after")
					if e := from.envelope(); e.Code != string(hostabi.PayloadTooLarge) || e.Limit != 4000 || e.Actual != c.actual ||
						e.Message != "message of "+c.told+" bytes exceeds max_message_size 4000" {
						t.Fatalf("%s received %+v", from.name, e)
					}
					to.expect("before", "after")
					to.silent()
					from.silent()
				}
				if n := r.metric("weir_messages_dropped_total", "oversize"); n != 2 {
					t.Errorf("%v messages counted as oversize, want 2", n)
				}
				if f := r.carried(hostabi.ToClient); f.Messages != 2 || f.Refused != 1 {
					t.Errorf("%+v, want 2 messages and 1 refused", f)
				}
			}, maxMessage(4000))
		})
	}
}

func TestAtTheCeiling(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for _, way := range r.ways() {
			for _, sizes := range [][]int{{1000}, {999, 1}, {0, 500, 0, 500, 0}} {
				frames := way[0].message(sizes)
				way[0].raw(frames...)
				way[1].expectBytes(bytes.Join(frames, nil))
			}
			way[0].silent()
		}
	}, maxMessage(1000))
}

// Control frames pass while a refused message is drained, and between its
// fragments.
func TestControlFramesPassARefusedMessage(t *testing.T) {
	inTunnel(t, func(r *rig) {
		frames := r.c.message([]int{700, 700, 700})
		r.c.raw(frames[0], frames[1])
		r.c.ping("1")
		r.u.expectFrame(got{wsframe.Ping, true, "1"})
		r.c.raw(frames[2][:300])
		r.u.send("from upstream")
		r.c.expect("from upstream")
		r.c.raw(frames[2][300:])
		r.c.refused(hostabi.PayloadTooLarge, 1000, 1400)
		r.c.send("next")
		r.u.expect("next")
	}, maxMessage(1000))
}

// What is refused is not kept, however much of it comes.
func TestDrainedWithoutBuffering(t *testing.T) {
	inTunnel(t, func(r *rig) {
		wire := r.c.frame(true, wsframe.Binary, strings.Repeat("x", 60_000))
		for _, part := range [][]byte{wire[:100], wire[100:30_000], wire[30_000:59_000]} {
			r.c.raw(part)
			synctest.Wait()
			p := &r.pumps[hostabi.ToUpstream]
			if p.buf != nil || len(p.carry) > 0 || r.memory.Used() != 0 {
				t.Errorf("memory is held for a refused message")
			}
		}
		r.c.raw(wire[59_000:])
		r.c.refused(hostabi.PayloadTooLarge, 1000, 60_000)
	}, maxMessage(1000))
}

// Past min(64 × max_message_size, 1 GiB) a message is not drained any more:
// both legs are closed with 1009.
func TestDrainCeiling(t *testing.T) {
	huge := func(p *peer, n int64) []byte {
		h := wsframe.Header{Fin: true, Opcode: wsframe.Binary, Length: n, Masked: p.mask != nil}
		return wsframe.AppendHeader(nil, h)
	}
	for _, c := range []struct {
		name   string
		limit  int64
		send   func(p *peer) [][]byte
		closed bool
		told   bool // that it is refused, before it is too much
	}{
		{"declared at the ceiling", 1000, func(p *peer) [][]byte { return [][]byte{huge(p, 64_000)} }, false, false},
		{"declared above", 1000, func(p *peer) [][]byte { return [][]byte{huge(p, 64_001)} }, true, false},
		{"2^63-1", 1000, func(p *peer) [][]byte { return [][]byte{huge(p, 1<<63-1)} }, true, false},
		{"1 GiB at most", 100 << 20, func(p *peer) [][]byte { return [][]byte{huge(p, 1<<30+1)} }, true, false},
		{"fragments summed", 1000, func(p *peer) [][]byte { return p.message([]int{40_000, 24_001, 5}) }, true, true},
		{"fragments that overflow 64 bits", 1000, func(p *peer) [][]byte {
			frames := p.message([]int{1001, 5})
			h := huge(p, 1<<63-1)
			h[0] = byte(wsframe.Continuation)
			return [][]byte{frames[0], h}
		}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for way := range 2 {
				inTunnel(t, func(r *rig) {
					from, to := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
					from.raw(c.send(from)...)
					if !c.closed {
						to.silent()
						return
					}
					if c.told {
						from.envelope()
					}
					from.closed(1009, "payload_too_large")
					to.closed(1009, "payload_too_large")
					<-r.ended
					said := "initiator=weir fault=payload_too_large direction=" + directionName(hostabi.Direction(way))
					if n := r.metric("weir_ws_closes_total", "1009", "weir"); n != 1 || !strings.Contains(r.log.String(), said) {
						t.Errorf("%v closes counted, the log does not say %q: %s", n, said, r.log)
					}
					if n := r.metric("weir_messages_dropped_total", "oversize"); n != 1 || !strings.Contains(r.log.String(), "refused=1 ") {
						t.Errorf("%v messages counted as dropped, want 1: %s", n, r.log)
					}
					if n := r.metric("weir_faults_total", "payload_too_large"); n != 2 {
						t.Errorf("%v faults counted, want one of the message and one of the tunnel", n)
					}
				}, maxMessage(c.limit))
			}
		})
	}
}

// A close reason has room for 123 bytes: the largest numbers are whole in it.
func TestDrainCeilingIsWholeInItsReason(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.c.raw(wsframe.AppendHeader(nil, wsframe.Header{Fin: true, Opcode: wsframe.Binary, Length: math.MaxInt64, Masked: true}))
		r.c.closed(1009, "message of 9223372036854775807 bytes exceeds max_message_size 1099511627776, drain ceiling 1073741824")
	}, maxMessage(1<<40))
}

// A million tiny fragments are bounded by what their headers cost.
func TestEndlessTinyFragments(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.c.raw(r.c.frame(false, wsframe.Text, ""))
		empty := r.c.frame(false, wsframe.Continuation, "")
		for range 100 {
			r.c.raw(bytes.Repeat(empty, 1000))
		}
		synctest.Wait()
		if n := r.memory.Used(); n > 2*1000+2*heldOverhead {
			t.Errorf("%d bytes are held for empty fragments", n)
		}
		r.c.raw(r.c.frame(true, wsframe.Continuation, ""))
		r.c.refused(hostabi.PayloadTooLarge, 1000, -1)
		r.c.send("next")
		r.u.expect("next")
		many := bytes.Repeat(empty, headerCeiling/len(empty)/16)
		r.c.raw(r.c.frame(false, wsframe.Text, ""))
		for range 17 {
			r.c.raw(many)
		}
		r.c.closed(1009, "bytes of frame headers, above 16777216")
	}, maxMessage(1000))
}

// A rule narrows the ceiling for its kind.
func TestCeilingOfAnEvent(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for _, way := range r.ways() {
			from, to := way[0], way[1]
			small, large := `{"type":"small"}`, event("small", 7, 21)
			from.send(small, large, event("other", 1, 500))
			from.raw(from.frame(false, wsframe.Text, large[:10]), from.frame(true, wsframe.Continuation, large[10:]))
			from.send(event("small", 8, 100_000), "end")
			to.expect(small, event("other", 1, 500), "end")
			for _, actual := range []int{len(large), len(large), 100_000} {
				from.refused(hostabi.PayloadTooLarge, 20, int64(actual))
			}
			from.send(large)
			if e, want := from.envelope(), fmt.Sprintf("message of %d bytes exceeds the policy's max_size of its kind, 20", len(large)); e.Message != want {
				t.Errorf("%q, want %q", e.Message, want)
			}
		}
	}, under(events(t)))
}

// The policy chooses who is told: the sender, the receiver in the message's
// place, or nobody; and quotes fields of the message.
func TestEnvelopeGoesWhereThePolicySays(t *testing.T) {
	for _, c := range []struct {
		to       hostabi.Recipient
		toSender bool
		toOther  bool
	}{{hostabi.ToSender, true, false}, {hostabi.ToReceiver, false, true}, {hostabi.ToNobody, false, false}} {
		p := events(t, func(f *policytest.Funcs) {
			f.Error = func(in *hostabi.ErrorInput) (hostabi.ErrorOutput, bool) {
				out := hostabi.ErrorOutput{Template: `{"no":{{code}},"id":{{field:/id}},"key":{{key}}}`, Recipient: c.to}
				return out, in.Transport == hostabi.WebSocket
			}
		})
		inTunnel(t, func(r *rig) {
			for _, way := range r.ways() {
				from, to := way[0], way[1]
				from.send("1", event("x", 7, 2000), "2")
				from.raw(from.frame(false, wsframe.Text, event("y", 8, 900)), from.frame(true, wsframe.Continuation, strings.Repeat(".", 900)))
				from.send("3")
				first, second := `{"no":"payload_too_large","id":7,"key":"x"}`, `{"no":"payload_too_large","id":8,"key":"y"}`
				if c.toOther {
					to.expect("1", first, "2", second, "3")
				} else {
					to.expect("1", "2", "3")
				}
				if c.toSender {
					from.expect(first, second)
				}
				from.silent()
				to.silent()
			}
			if f := r.carried(hostabi.ToClient); f.Messages != 3 {
				t.Errorf("%d messages counted, want 3: envelopes are none", f.Messages)
			}
			if f := r.carried(hostabi.ToUpstream); f.Bytes != 3*(2+4+1) {
				t.Errorf("%d bytes counted, want those of 3 messages", f.Bytes)
			}
		}, maxMessage(1000), under(p))
	}
}

// A reload between two messages applies to the second.
func TestSettingsOfTheMoment(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.c.send(strings.Repeat("x", 1500))
		r.c.refused(hostabi.PayloadTooLarge, 1000, 1500)
		next := *r.route.Load()
		next.Limits.MaxMessageSize = 2000
		r.route.Store(&next)
		r.c.send(strings.Repeat("x", 1500))
		r.u.expect(strings.Repeat("x", 1500))
		strict := next
		strict.Limits.MaxMessageSize = 10
		strict.View = events(t).View("r")
		r.route.Store(&strict)
		r.c.send(event("x", 1, 11))
		r.c.refused(hostabi.PayloadTooLarge, 10, -1)
	}, maxMessage(1000))
}

func TestMessageRate(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for range 5 {
			r.c.send("m")
		}
		r.u.expect("m", "m", "m")
		for range 2 {
			r.c.refused(hostabi.RateLimited, 2, -1)
		}
		if log := r.log.String(); !strings.Contains(log, "code=rate_limited direction=to_upstream event_key=\"\" limit=2 trace_id=") {
			t.Errorf("the log has %s", log)
		}
		r.u.send("1", "2", "3", "4", "5") // the upstream has no rate
		r.c.expect("1", "2", "3", "4", "5")
		sleep(500)
		r.c.send("one more")
		r.u.expect("one more")
	}, with(func(l *config.Limits) { l.MessageRate, l.MessageBurst = 2, 3 }))
}

func TestMessageRateThatPersistsCloses(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for range limitedRow + 3 {
			r.c.send("m")
		}
		r.u.expect("m")
		for range limitedRow {
			r.c.refused(hostabi.RateLimited, 1, -1)
		}
		r.c.closed(1008, "rate_limited")
		r.u.closed(1008, "rate_limited")
	}, with(func(l *config.Limits) { l.MessageRate, l.MessageBurst = 1, 1 }))
}

// A message that is too large is one, too.
func TestTooLargeMessagesCostTheirRate(t *testing.T) {
	for _, c := range tooLarge {
		t.Run(c.name, func(t *testing.T) {
			inTunnel(t, func(r *rig) {
				for range 2 {
					r.c.raw(r.c.message(c.frames)...)
					r.c.refused(hostabi.PayloadTooLarge, 4000, c.actual)
				}
				r.c.send("m")
				r.c.refused(hostabi.RateLimited, 1, -1)
				for range 2 * limitedRow { // that was the first above the rate
					r.c.raw(r.c.message(c.frames)...)
				}
				for range 2*limitedRow - 1 {
					r.c.refused(hostabi.PayloadTooLarge, 4000, c.actual)
				}
				r.c.closed(1008, "rate_limited")
			}, maxMessage(4000), with(func(l *config.Limits) { l.MessageRate, l.MessageBurst = 1, 2 }))
		})
	}
}

func TestMessageRateThatDoesNotPersist(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for range 3 {
			r.c.send("m")
			r.u.expect("m")
			for range limitedRow {
				r.c.send("m")
				r.c.refused(hostabi.RateLimited, 1, -1)
			}
			sleep(1000)
		}
	}, with(func(l *config.Limits) { l.MessageRate, l.MessageBurst = 1, 1 }))
}

func TestMessageBurstChanges(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.c.send("m")
		r.u.expect("m")
		set := *r.route.Load()
		set.Limits.MessageBurst = 3
		r.route.Store(&set)
		r.c.send("1", "2", "3")
		r.u.expect("1", "2", "3")
	}, with(func(l *config.Limits) { l.MessageRate, l.MessageBurst = 1, 1 }))
}
