package relay

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/flow"
	"weir/proxy/metrics"
	"weir/proxy/policy/policytest"
	"weir/proxy/wsframe"
)

// A full memory budget sheds, here and elsewhere; critical messages wait for
// it, and arrive.
func TestMaxMemory(t *testing.T) {
	inTunnel(t, func(r *rig) {
		full := fill(r.u, 1000)
		r.memory.Reserve(8000) // other tunnels
		for i := range 10 {
			r.u.send(event("presence", i, 200))
		}
		synctest.Wait()
		f := r.carried(hostabi.ToClient)
		if f.Shed < 4 || f.Shed > 6 {
			t.Errorf("%d are shed", f.Shed)
		}
		for i := range 10 {
			r.u.send(event("critical", i, 200))
		}
		synctest.Wait()
		if n := r.memory.Used(); n > 10_000+2*16 {
			t.Errorf("%d bytes are reserved of 10000", n)
		}
		if r.pressure.Load() == 0 {
			t.Error("nobody was asked to shed")
		}
		r.memory.Release(8000)
		r.c.expect(full, `{"gap":10}`)
		for i := range 10 {
			r.c.expect(event("critical", i, 200))
		}
		synctest.Wait()
		if n := r.memory.Used(); n != 0 {
			t.Errorf("%d bytes are reserved when nothing waits", n)
		}
	}, kernel(500), memory(10_000), under(events(t)))
}

// Memory that a fragment waits for is not taken by what may be shed, however
// much of it comes.
func TestAFragmentBesideAFloodOfDroppables(t *testing.T) {
	inTunnel(t, func(r *rig) {
		full := fill(r.u, 1000)
		flood := func(n int) {
			for i := range n {
				r.u.send(event("presence", i, 200))
			}
		}
		flood(100)
		synctest.Wait()
		if n := r.memory.Used(); n < 9500 {
			t.Fatalf("%d bytes are reserved of 10000", n)
		}
		first, rest := strings.Repeat("x", 900), strings.Repeat("y", 900)
		r.c.raw(r.c.frame(false, wsframe.Text, first))
		for range 20 {
			flood(10)
			sleep(1)
		}
		r.c.raw(r.c.frame(true, wsframe.Continuation, rest))
		for range 20 {
			flood(10)
			sleep(1)
		}
		r.u.expectFrame(got{wsframe.Text, false, first})
		r.u.expectFrame(got{wsframe.Continuation, true, rest})
		r.c.expect(full)
	}, kernel(500), memory(10_000), under(events(t)))
}

// Fragments that find no memory are refused like what is too large.
func TestMaxMemoryHeld(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.memory.Reserve(9000)
		r.c.raw(r.c.frame(false, wsframe.Text, strings.Repeat("x", 900)))
		r.c.raw(r.c.frame(true, wsframe.Continuation, strings.Repeat("x", 900)))
		r.c.refused(hostabi.PendingLimit, 10_000, -1)
		r.memory.Release(9000)
		r.c.send("next")
		r.u.expect("next")
		if r.pressure.Load() == 0 {
			t.Error("nobody was asked to shed")
		}
		var other flow.Queue
		other.Init(1<<20, r.memory)
		if !other.Push(flow.Message{Wire: make([]byte, 9900), Droppable: true}) {
			t.Error("memory is kept free for what was refused")
		}
		other.Close()
	}, memory(10_000))
}

// The beginning of a held message is there twice, once unmasked: for many clients with a
// fragment each that is half of what they take.
func TestTheBeginningOfAHeldMessageTakesMemory(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for _, n := range []int{100, 900, peekSize, 10 * peekSize} {
			text := strings.Repeat("x", n)
			for i := range n / 50 {
				r.c.raw(r.c.frame(false, []wsframe.Opcode{wsframe.Text, wsframe.Continuation}[min(i, 1)], text[i*50:i*50+50]))
			}
			synctest.Wait()
			hold := r.pumps[hostabi.ToUpstream].hold
			if used, takes := r.memory.Used(), cap(hold.wire)+cap(hold.prefix); used != int64(takes) {
				t.Errorf("%d bytes are held, and %d are reserved", takes, used)
			}
			r.c.raw(r.c.frame(true, wsframe.Continuation, ""))
			synctest.Wait()
			if used := r.memory.Used(); used != 0 {
				t.Errorf("%d bytes are reserved when nothing is held", used)
			}
		}
	})
}

// What a peer takes slowly is held for it, and counts until it has gone, whatever its
// rule: of what has begun nothing can be shed.
func TestAMessageOnItsWayTakesMemory(t *testing.T) {
	for _, kind := range []string{"m", "presence", "state"} {
		for way := range 2 {
			inTunnel(t, func(r *rig) {
				from, to := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
				m := event(kind, 1, 500_000, `,"of":1`)
				first, rest := from.frame(false, wsframe.Text, m[:1000]), from.frame(true, wsframe.Continuation, m[1000:])
				from.raw(first, rest)
				synctest.Wait()
				if n := r.memory.Used(); n < 500_000 {
					t.Errorf("a message of 500000 bytes is held, and %d are reserved", n)
				}
				to.expectBytes(first)
				to.expectBytes(rest)
				from.send("end")
				to.expect("end")
				synctest.Wait()
				if n := r.memory.Used(); n != 0 {
					t.Errorf("%d bytes are reserved when nothing waits", n)
				}
			}, kernel(500), memory(4<<20), under(events(t)))
		}
	}
}

// So does what is left of it when the tunnel has ended, while its peer goes on taking it.
func TestTheRestOfAMessageTakesMemoryAtTheEnd(t *testing.T) {
	inTunnel(t, func(r *rig) {
		m := event("m", 1, 500_000)
		r.u.raw(r.u.frame(false, wsframe.Text, m[:1000]), r.u.frame(true, wsframe.Continuation, m[1000:]))
		synctest.Wait()
		r.end(Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "over"})
		for left := 500_000; left > 10_000; left -= 10_000 {
			synctest.Wait()
			if n := int(r.memory.Used()); n < left-1000 || n > left+1000 {
				t.Errorf("%d bytes of a message are held, and %d are reserved", left, n)
			}
			r.c.read(10_000)
		}
	}, kernel(500), memory(4<<20))
}

// The beginning of a frame waits in a buffer that just holds the frame, and counts
// as that.
func TestUnfinishedFramesTakeMemory(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for d, way := range [][2]*peer{hostabi.ToUpstream: {r.c, r.u}, hostabi.ToClient: {r.u, r.c}} {
			from, to := way[0], way[1]
			for size, cost := range map[int]int64{
				1000: 0, 3000: leastSize, 5000: 8 << 10, 20_000: 32 << 10, 60_000: bufferSize,
				80_000: 8 << 10, // is passed on as soon as its event key is here
			} {
				if cost > 0 {
					cost += bufferCost
				}
				text := event("x", 1, size)
				frame := from.frame(true, wsframe.Text, text)
				sent := 0
				for _, upTo := range []int{min(size-1, carrySize), min(size-1, peekSize)} {
					from.raw(frame[sent:upTo])
					sent = upTo
					synctest.Wait()
					want := cost
					if upTo <= carrySize {
						want = 0
					}
					if n := r.memory.Used(); n != want || r.memory.Queued() != 0 {
						t.Errorf("%d bytes of %d: %d are reserved, want %d; %d are queued", upTo, size, n, want, r.memory.Queued())
					}
					if b := r.pumps[d].buf; b != nil && int64(len(b.data)+bufferCost) > want {
						t.Errorf("%d bytes of %d wait in %d", upTo, size, len(b.data))
					}
				}
				from.raw(frame[sent:])
				to.expect(text)
				synctest.Wait()
				if n := r.memory.Used(); n != 0 {
					t.Errorf("%d bytes are reserved when nothing waits", n)
				}
			}
		}
	}, memory(1<<20), under(events(t)))
}

// Nor is anything left of one whose peer is lost.
func TestFramesThatNeverEndLeaveNothing(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for _, p := range []*peer{r.c, r.u} {
			p.raw(p.frame(true, wsframe.Text, event("x", 1, 5000))[:3000])
		}
		synctest.Wait()
		if r.memory.Used() == 0 {
			t.Error("their beginnings take no memory")
		}
	}, memory(1<<20), under(events(t)))
}

// Toward a peer whose queue is full little is read, and the buffer that it waits in
// is what counts, which may be smaller than the whole frame.
func TestUnfinishedFramesTowardTheSlow(t *testing.T) {
	inTunnel(t, func(r *rig) {
		fill(r.u, 2000)
		sent := []string{event("critical", 0, 15_000), event("critical", 1, 60_000)}
		r.u.send(sent[0])
		frame := r.u.frame(true, wsframe.Text, sent[1])
		r.u.raw(frame[:3000])
		synctest.Wait()
		held := int64(len(r.pumps[hostabi.ToClient].buf.data) + bufferCost)
		if n := r.memory.Used() - r.memory.Queued(); n != held {
			t.Errorf("%d bytes count for 3000 that wait, want %d", n, held)
		}
		r.u.raw(frame[3000:])
		r.c.next()
		r.c.expect(sent...)
	}, kernel(2000), buffered(20_000), memory(1<<20), under(events(t)))
}

// What a buffer that waits keeps beside its data is as little as is counted.
func TestUnfinishedFramesAfterManySmallOnes(t *testing.T) {
	inTunnel(t, func(r *rig) {
		text := event("x", 1, 50_000)
		frame := r.u.frame(true, wsframe.Text, text)
		r.u.raw(frame[:20_000])
		synctest.Wait()
		b := r.pumps[hostabi.ToClient].buf
		b.msgs = make([]message, 0, maxRun) // as it came from the pool
		r.u.raw(frame[20_000:30_000])
		synctest.Wait()
		if b := r.pumps[hostabi.ToClient].buf; cap(b.msgs) > keptMsgs {
			t.Errorf("it keeps room for %d messages", cap(b.msgs))
		}
		r.u.raw(frame[30_000:])
		r.c.expect(text)
	}, under(events(t)))
}

// A frame whose beginning finds no memory is not refused: it counts all the same, so
// that nothing new begins and what may be shed goes.
func TestUnfinishedFramesComeFirst(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.memory.Reserve(100_000)
		text := event("x", 1, 5000)
		frame := r.c.frame(true, wsframe.Text, text)
		r.c.raw(frame[:3000])
		time.Sleep(time.Second)
		if max, _, used := r.memory.Full(); used <= max {
			t.Errorf("%d bytes are reserved of %d", used, max)
		}
		r.c.raw(frame[3000:])
		r.u.expect(text)
		r.memory.Release(100_000)
	}, memory(100_000))
}

// What is refused for want of memory is told by its fields all the same, in
// whichever of its fragments the memory ran out, and however its bytes came.
func TestWhatFindsNoMemoryIsQuoted(t *testing.T) {
	p := events(t, func(f *policytest.Funcs) {
		f.Error = func(in *hostabi.ErrorInput) (hostabi.ErrorOutput, bool) {
			return hostabi.ErrorOutput{Template: `{"no":{{code}},"id":{{field:/id}}}`}, in.Transport == hostabi.WebSocket
		}
	})
	inTunnel(t, func(r *rig) {
		r.memory.Reserve(9000)
		for _, way := range r.ways() {
			from := way[0]
			for id, sizes := range [][]int{{5000, 10}, {10, 5000, 10}, {0, 5000, 0}, {300, 300, 5000}} {
				for _, pieces := range []int{1 << 20, 13} { // not a multiple of a mask
					var wire []byte
					text := event("x", id, 6000)
					for i, n := range sizes {
						n = min(n, len(text))
						b := from.frame(i == len(sizes)-1, wsframe.Continuation, text[:n])
						if i == 0 {
							b = from.frame(false, wsframe.Text, text[:n])
						}
						wire, text = append(wire, b...), text[n:]
					}
					for len(wire) > 0 {
						n := min(pieces, len(wire))
						from.raw(wire[:n])
						wire = wire[n:]
						synctest.Wait()
						time.Sleep(time.Second)
					}
					from.expect(fmt.Sprintf(`{"no":"pending_limit","id":%d}`, id))
				}
			}
		}
		r.memory.Release(9000)
	}, memory(10_000), under(p))
}

// What is said of a refused message names the ceiling that it broke and what that was
// then, whatever else is as large or is reloaded meanwhile.
func TestARefusalNamesItsCeiling(t *testing.T) {
	said := func(r *rig, want string) {
		r.t.Helper()
		if e := r.c.envelope(); e.Message != want {
			r.t.Errorf("%q, want %q", e.Message, want)
		}
	}
	inTunnel(t, func(r *rig) {
		r.memory.Reserve(10_000)
		r.c.raw(r.c.frame(false, wsframe.Text, "x"))
		r.c.raw(r.c.frame(true, wsframe.Continuation, "x"))
		said(r, "11024 bytes would wait with this message, max_memory is 10000")
		r.memory.Release(10_000)
	}, memory(10_000), with(func(l *config.Limits) { l.MaxPendingBytes = 10_000 }))

	inTunnel(t, func(r *rig) {
		r.c.raw(r.c.frame(true, wsframe.Text, strings.Repeat("x", 300))[:200])
		synctest.Wait()
		set := Settings{View: r.route.Load().View, Limits: limits()}
		set.Limits.MaxMessageSize = 200
		r.route.Store(&set)
		r.c.raw(make([]byte, 108))
		said(r, "message of 300 bytes exceeds max_message_size 200")

		r.c.raw(r.c.frame(true, wsframe.Text, strings.Repeat("x", 300))[:200])
		synctest.Wait()
		wider := set
		wider.Limits.MaxMessageSize = 1000
		r.route.Store(&wider)
		r.c.raw(make([]byte, 108))
		said(r, "message of 300 bytes exceeds max_message_size 200")
	})
}

// Answers that wait until a large message has passed take memory, and go on doing so
// when they wait behind it.
func TestAnswersThatWaitTakeMemory(t *testing.T) {
	for _, passes := range []bool{false, true} {
		inTunnel(t, func(r *rig) {
			r.u.send(event("critical", 0, large))
			synctest.Wait()
			for i := range 1000 {
				r.c.send(event("small", i, 100))
			}
			synctest.Wait()
			if n := r.memory.Used(); n < deferredCeiling {
				t.Errorf("%d bytes are taken", n)
			}
			if !passes {
				return
			}
			r.c.expect(event("critical", 0, large))
			synctest.Wait()
			if n := r.memory.Used(); n < deferredCeiling-2000 {
				t.Errorf("%d bytes are taken when the message has passed", n)
			}
			for range 1000 {
				r.c.refused("payload_too_large", 20, -1)
			}
			synctest.Wait()
			if n := r.memory.Used(); n != 0 {
				t.Errorf("%d bytes are taken at the end", n)
			}
		}, under(events(t)), kernel(1000), buffered(1000), maxMessage(large))
	}
}
