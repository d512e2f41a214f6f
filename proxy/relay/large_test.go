package relay

import (
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/metrics"
	"weir/proxy/wsframe"
)

const large = 300_000 // bytes, of a message that no buffer holds

// A large message is passed on as it comes.
func TestCutThrough(t *testing.T) {
	for way := range 2 {
		inTunnel(t, func(r *rig) {
			from, to := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
			wire := from.frame(true, wsframe.Binary, strings.Repeat("x", large))
			from.raw(wire[:100])
			to.silent() // its kind could still stand in what follows
			from.raw(wire[100:peekSize])
			to.silent()
			from.raw(wire[peekSize : peekSize+100])
			synctest.Wait()
			to.expectBytes(wire[:peekSize+100])
			from.raw(wire[peekSize+100 : large-1])
			to.expectBytes(wire[peekSize+100 : large-1])
			to.silent()
			from.raw(wire[large-1:], from.frame(true, wsframe.Text, "next"))
			to.expectBytes(wire[large-1:])
			to.expect("next")
			if f := r.carried(hostabi.Direction(way)); f.Messages != 2 {
				t.Errorf("%d messages counted, want 2", f.Messages)
			}
		})
	}
}

// Nothing of Weir's own stands within a large message, however the tunnel ends.
func TestNothingComesBetweenTheParts(t *testing.T) {
	for what, end := range map[string]func(r *rig, p *pump, rest []byte){
		"a drain": func(r *rig, _ *pump, _ []byte) { r.Drain(0) },
		"an end between two parts": func(r *rig, p *pump, rest []byte) {
			p.out.sink.stop()
			p.out.sink.part(p, rest, true)
			p.out.sink.unlockMessage()
			r.end(Cause{Initiator: metrics.ByWeir, Code: 1001})
		},
	} {
		inTunnel(t, func(r *rig) {
			wire := r.c.frame(true, wsframe.Binary, strings.Repeat("x", large))
			r.c.raw(wire[:large/2])
			synctest.Wait()
			end(r, &r.pumps[hostabi.ToUpstream], wire[large/2:])
			if got := r.u.read(2 * large); string(got) != string(wire[:large/2]) {
				t.Errorf("%s: the upstream received %d bytes, want the %d sent: %.100q", what, len(got), large/2, got[min(len(got), large/2):])
			}
		})
	}
}

// Refusals wait for a large message to pass. Too many stop who causes them, who is
// not found silent for that; the next message begins with none.
func TestRefusalsDuringALargeMessage(t *testing.T) {
	inTunnel(t, func(r *rig) {
		client := &r.legs[hostabi.ToUpstream]
		for _, n := range []int{1000, 10} {
			client.sink.lockMessage()
			for range n {
				r.c.send("too large, all of them")
			}
			synctest.Wait()
			if paused := client.paused.Load(); paused != (n == 1000) {
				t.Errorf("paused by %d refusals: %v", n, paused)
			}
			client.sink.unlockMessage()
			for range n {
				r.c.refused(hostabi.PayloadTooLarge, 10, -1)
			}
		}
	}, maxMessage(10))
}

// A large message that is shed when nothing waits any more is told of at once.
func TestTheNoticeOfALargeMessage(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.legs[hostabi.ToUpstream].sink.drop()
		synctest.Wait()
		if r.c.w.out.unread() == 0 {
			t.Error("it waits for another message")
		}
		r.c.expect(`{"gap":1}`)
	}, under(events(t)))
}

// Toward a slow peer a large message waits like others, a part at a time.
func TestCutThroughToASlowPeer(t *testing.T) {
	for way := range 2 {
		inTunnel(t, func(r *rig) {
			from, to := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
			first := fill(from, 1000)
			wire := from.frame(true, wsframe.Binary, strings.Repeat("x", large))
			from.raw(wire, wire)
			from.send("end")
			synctest.Wait()
			if n := r.legs[way^1].sink.queue.Bytes(); n > 20_000 {
				t.Errorf("%d bytes wait", n)
			}
			if from.w.in.unread() < large {
				t.Error("a large message is read on while nobody takes it")
			}
			to.expect(first)
			to.expectBytes(wire)
			to.expectBytes(wire)
			to.expect("end")
		}, kernel(500), buffered(20_000))
	}
}

// Envelopes and everything else of Weir's wait for the end of a large message.
func TestNothingComesBetween(t *testing.T) {
	inTunnel(t, func(r *rig) {
		wire := r.u.frame(true, wsframe.Binary, strings.Repeat("x", large))
		r.u.raw(wire[:200_000])
		synctest.Wait()
		for range 3 {
			r.c.send(strings.Repeat("x", large+1))
		}
		r.c.send("passes")
		r.u.expect("passes")
		r.u.raw(wire[200_000:])
		r.c.expectBytes(wire)
		for range 3 {
			r.c.refused(hostabi.PayloadTooLarge, large, large+1)
		}
	}, maxMessage(large))
}

// An envelope that waited for its peer before a large message began comes
// before it, not into it.
func TestLentEnvelopeBeforeALargeMessage(t *testing.T) {
	inTunnel(t, func(r *rig) {
		first := fill(r.u, 2000)
		for range 30 { // more envelopes than the queue holds
			r.c.send(strings.Repeat("x", large+1))
		}
		synctest.Wait()
		wire := r.u.frame(true, wsframe.Binary, strings.Repeat("x", large))
		r.u.raw(wire)
		r.u.send("end")
		synctest.Wait()
		r.c.expect(first)
		envelopes, messages := 0, []string{}
		for envelopes < 30 || len(messages) < 2 {
			g, err := r.c.next()
			switch {
			case err != nil:
				t.Fatal(err)
			case strings.Contains(g.payload, "payload_too_large"):
				envelopes++
			default:
				messages = append(messages, g.payload)
			}
		}
		if len(messages) != 2 || len(messages[0]) != large || messages[1] != "end" {
			t.Errorf("%d messages", len(messages))
		}
	}, kernel(500), buffered(3000), maxMessage(large))
}

// A sender that dies inside a large message: the receiver gets no close frame,
// which would be bytes of the message, but the end of its connection.
func TestSourceDiesInsideAMessage(t *testing.T) {
	for way := range 2 {
		inTunnel(t, func(r *rig) {
			from, to := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
			from.raw(from.frame(true, wsframe.Binary, strings.Repeat("x", large))[:large/2])
			synctest.Wait()
			from.end()
			if g, err := to.next(); err != io.ErrUnexpectedEOF && err != syscall.ECONNRESET {
				t.Errorf("%s received %v, %v", to.name, g, err)
			}
			<-r.ended
		})
	}
}

// A tunnel ends while the pump has the end of one large message and the beginning of the
// next in hands: what cannot be passed on any more was begun on the wire all the same.
func TestALargeMessageBehindATornOne(t *testing.T) {
	inTunnel(t, func(r *rig) {
		first, next := r.u.frame(true, wsframe.Text, strings.Repeat("a", 100_000)), r.u.frame(true, wsframe.Text, strings.Repeat("b", 100_000))
		r.u.raw(first[:70_000])
		r.c.expectBytes(first[:70_000])
		r.legs[hostabi.ToUpstream].sink.stop() // which the pump finds out now
		r.u.raw(slices.Concat(first[70_000:], next[:10_000]))
		synctest.Wait()
		r.end(Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "over"})
		<-r.ended
		if got := r.c.read(1000); len(got) > 0 {
			t.Errorf("it has %q, want an end", got)
		}
	})
}

// A slow consumer inside a large message can be told nothing; it is reset.
func TestSlowConsumerInsideAMessage(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.u.raw(r.u.frame(true, wsframe.Binary, strings.Repeat("x", large)))
		sleep(5100)
		r.u.closed(1013, "slow_consumer")
		<-r.ended
		if !r.c.w.out.reset {
			t.Error("not reset")
		}
	}, kernel(500), buffered(5000))
}

// One that the queue can hold is begun when there is room for all of it: a slow
// consumer can then be told.
func TestSlowConsumerOfLargeMessages(t *testing.T) {
	for _, size := range []int{bufferSize, bufferSize + 1, 100_000, 300_000} {
		inTunnel(t, func(r *rig) {
			for range 20 {
				r.u.send(strings.Repeat("x", size))
			}
			sleep(4900)
			r.u.silent()
			sleep(200)
			r.u.closed(1013, "slow_consumer")
			for n := 0; ; n++ {
				g, err := r.c.next()
				if err != nil {
					t.Fatalf("%d bytes: %v", size, err)
				}
				if g.op == wsframe.Close {
					break
				}
				if len(g.payload) != size || n > 0 {
					t.Errorf("message %d of %d bytes, want the one begun, of %d", n, len(g.payload), size)
				}
			}
		}, kernel(5000), buffered(400_000))
	}
}

// Waiting for room sheds what may be shed, and no more than that takes.
func TestALargeMessageMakesRoom(t *testing.T) {
	inTunnel(t, func(r *rig) {
		first := fill(r.u, 2000)
		for i := range 100 {
			r.u.send(event("presence", i, 1000))
		}
		r.u.send(event("critical", 100, large))
		synctest.Wait()
		if f := r.carried(hostabi.ToClient); f.Shed == 0 || f.Shed > 60 {
			t.Errorf("%d messages are shed for one of %d bytes, of 100 of 1000", f.Shed, large)
		}
		r.c.expect(first)
	}, kernel(500), buffered(large+50_000), under(events(t)))
}

// Large messages are judged by rules like others: shed whole toward a slow
// peer, refused when the inbox is full.
func TestLargeMessagesByRule(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.u.send(event("pp", 1, large))
		r.c.expect(event("pp", 1, large))
		first := fill(r.u, 1000)
		// Of the second nobody can tell yet that it has no /seq.
		r.u.send(event("pp", 2, large), event("presence", 3, large), "end")
		synctest.Wait()
		r.c.expect(first, `{"gap":1}`, event("presence", 3, large), "end")

		first = fill(r.c, 1000)
		r.c.send("waits", event("m", 1, large), "last")
		r.c.refused(hostabi.InboxFull, 2, 2)
		r.c.refused(hostabi.InboxFull, 2, 2)
		r.u.expect(first, "waits")
		r.u.silent()
	}, kernel(500), under(events(t)), with(func(l *config.Limits) { l.MaxInbox = 2 }))
}

// One that the queue has room for waits in it like others: the newest of a state is
// what arrives, however large it is.
func TestLargeStatesAreConflated(t *testing.T) {
	inTunnel(t, func(r *rig) {
		first := fill(r.u, 1000)
		newest := event("state", 3, 90_000, `,"of":1`)
		r.u.send(event("state", 1, 200, `,"of":1`), event("state", 2, 100_000, `,"of":1`), event("m", 4, 150_000), newest, event("pp", 5, 70_000), "end")
		synctest.Wait()
		if f := r.carried(hostabi.ToClient); f.Conflated != 2 || f.Shed != 0 {
			t.Errorf("%+v", f)
		}
		r.c.expect(first, event("m", 4, 150_000), newest, event("pp", 5, 70_000), "end")
	}, kernel(500), under(events(t)), buffered(320_000))
}

// One that finds no memory is shed like others: nobody is refused for it, made to shed
// for it or made to wait, and its receiver is told.
func TestALargeMessageThatFindsNoMemoryIsShed(t *testing.T) {
	inTunnel(t, func(r *rig) {
		first := fill(r.u, 1000)
		r.u.send(event("pp", 1, 200_000), "end")
		synctest.Wait()
		if f := r.carried(hostabi.ToClient); f.Shed != 1 || f.Refused != 0 || r.pressure.Load() != 0 {
			t.Errorf("%+v, %d times everybody was asked to shed", f, r.pressure.Load())
		}
		r.u.silent()
		r.c.expect(first, `{"gap":1}`, "end")
	}, kernel(500), under(events(t)), buffered(400_000), memory(190_000))
}

// One that it has room for is not shed, fragments or not.
func TestALargeMessageThatFindsMemoryIsNotShed(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for range 2 {
			first := fill(r.u, 1000)
			m := event("pp", 1, 200_000)
			whole, parts := r.u.frame(true, wsframe.Text, m), [][]byte{r.u.frame(false, wsframe.Text, m[:100_000]), r.u.frame(true, wsframe.Continuation, m[100_000:])}
			for _, frames := range [][][]byte{{whole[:50_000], whole[50_000:]}, parts} {
				for _, b := range frames {
					r.u.raw(b)
					synctest.Wait()
				}
				r.c.expect(first)
				for _, b := range frames {
					r.c.expectBytes(b)
				}
				first = fill(r.u, 1000)
			}
			r.c.expect(first)
		}
	}, kernel(500), under(events(t)), buffered(400_000), memory(220_000))
}

// What waits and may be given up makes room for a large state, too: the newest is what
// arrives, also where older ones have filled the memory.
func TestALargeStateMakesRoomInMemory(t *testing.T) {
	for way := range 2 {
		inTunnel(t, func(r *rig) {
			from, to := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
			first := fill(from, 1000)
			for i := range 40 {
				from.send(event("state", i, 10_000, `,"of":1`))
			}
			newest := event("state", 40, 150_000, `,"of":1`)
			from.send(newest, "end")
			synctest.Wait()
			if f := r.carried(hostabi.Direction(way)); f.Shed != 0 || r.pressure.Load() != 0 {
				t.Errorf("%+v, %d times everybody was asked to shed", f, r.pressure.Load())
			}
			var last string
			for to.expect(first); ; {
				g, err := to.next()
				if err != nil || g.payload == "end" {
					break
				}
				last = g.payload
			}
			if last != newest {
				t.Errorf("the last state that arrives is %.40q", last)
			}
		}, kernel(500), under(events(t)), memory(400_000), buffered(1<<20))
	}
}

// Fragments of a large message are held up to the ceiling, and delivered to a
// slow peer without a second copy.
func TestLargeHeldMessage(t *testing.T) {
	inTunnel(t, func(r *rig) {
		frames := r.u.message([]int{large / 3, large / 3, large / 3})
		r.u.raw(frames...)
		r.u.send("end")
		synctest.Wait()
		if n := r.memory.Used(); n > 2*large {
			t.Errorf("%d bytes are reserved for a message of %d", n, large)
		}
		for _, f := range frames {
			r.c.expectBytes(f)
		}
		r.c.expect("end")
	}, kernel(5000), buffered(20_000))
}

// Who is refused for want of memory is told how much there is, and how much would have
// been held: a held message grows by more than what came.
func TestWantOfMemoryIsMeasured(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.c.raw(r.c.frame(false, wsframe.Text, strings.Repeat("a", 7992))) // 8000 bytes with its header
		r.c.raw(r.c.frame(false, wsframe.Continuation, strings.Repeat("b", 6000)))
		synctest.Wait()
		if n := r.memory.Used(); n != 16_000+peekSize {
			t.Errorf("%d bytes are held", n)
		}
		r.c.raw(r.c.frame(false, wsframe.Continuation, strings.Repeat("c", 3000)))
		r.c.raw(r.c.frame(true, wsframe.Continuation, "d"))
		e := r.c.envelope()
		if e.Code != string(hostabi.PendingLimit) || e.Limit != 30_000 || e.Actual != 32_000+peekSize ||
			e.Message != "36096 bytes would wait with this message, max_memory is 30000" {
			t.Errorf("%+v", e)
		}
	}, memory(30_000))
}
