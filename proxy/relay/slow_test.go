package relay

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/poll"
	"weir/proxy/wsframe"
)

func buffered(n int64) option {
	return with(func(l *config.Limits) { l.MaxBufferedBytes = n; l.MaxPendingBytes = n })
}

// fill makes the kernel toward to full: one message that fills it.
func fill(from *peer, n int) string {
	s := strings.Repeat("f", n)
	from.send(s)
	synctest.Wait()
	return s
}

// Critical messages that do not fit stop the reading of the other leg, and
// nothing else. When the peer reads on everything arrives, in order.
func TestBackpressure(t *testing.T) {
	for way := range 2 {
		inTunnel(t, func(r *rig) {
			from, to := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
			d := hostabi.Direction(way)
			var sent []string
			for i := range 400 {
				sent = append(sent, event("critical", i, 1000))
				from.send(sent[i])
			}
			f := r.carried(d)
			if f.QueuedBytes > 20_000 || f.QueuedBytes < 15_000 {
				t.Errorf("%d bytes are queued, want at most 20000 and not much less", f.QueuedBytes)
			}
			if n := from.w.in.unread(); n < 400_000-20_000-2*readSize {
				t.Errorf("%s is read on, %d bytes are left in its kernel, while nobody reads what it sends", from.name, n)
			}
			to.send("the other way") // is not held up
			from.expect("the other way")
			to.expect(sent...)
			from.send("end")
			to.expect("end")
			if f := r.carried(d); f.Messages != 401 || f.Shed != 0 || f.QueuedBytes != 0 || f.QueuedMessages != 0 {
				t.Errorf("%+v", f)
			}
		}, kernel(2000), buffered(20_000), under(events(t)))
	}
}

// A pump that waits because a queue is full holds a small part of what it could
// read at once.
func TestWhoWaitsHoldsLittle(t *testing.T) {
	inTunnel(t, func(r *rig) {
		var sent []string
		for i := range 2000 {
			sent = append(sent, event([]string{"critical", "presence"}[i%2], i, 1000))
			r.u.send(sent[i])
		}
		synctest.Wait()
		if b := r.pumps[hostabi.ToClient].buf; b == nil || len(b.data) > slowSize {
			t.Error("it holds a buffer for readers at work")
		}
		if r.u.w.in.unread() == 0 {
			t.Error("everything is read")
		}
	}, kernel(2000), buffered(600_000), under(events(t)))
}

// A turn on a loop ends soon, however much there is to read, and says when it
// was long. Where more may be there than the loop is told of, it says that too. A
// read of a record that has little may have cost much, more with others before it that have
// nothing.
func TestTurnsOnALoopAreBounded(t *testing.T) {
	for _, f := range [][2]int{{0, 1}, {100, 1}, {100, 17}, {16_000, 1}} {
		record, steps := f[0], f[1]
		inTunnel(t, func(r *rig) {
			var sent []string
			for i := range 1000 {
				sent = append(sent, event("critical", i, 1000))
				if i%10 == 0 {
					sent[i] = event("critical", i, 20_000)
				}
				r.u.send(sent[i])
			}
			synctest.Wait()
			r.c.expect(sent...)
			r.u.send("little")
			r.c.expect("little")
			synctest.Wait()
			w, ok := r.legs[hostabi.ToClient].tr.(*loopWire)
			if !ok {
				return
			}
			for _, turn := range w.turns {
				most := record > 0 && (turn.bytes >= mostTurn || turn.reads >= mostReads)
				long := turn.bytes >= longTurn || most
				if turn.bytes > mostTurn+readSize || turn.reads >= mostReads+steps || long != (turn.said != poll.Short) || turn.said == poll.Again && !most {
					t.Errorf("a turn of %d reads, %d bytes, said %d", turn.reads, turn.bytes, turn.said)
				}
			}
			if last := w.turns[len(w.turns)-1]; last.said != poll.Short || last.bytes > 100 {
				t.Errorf("the last turn read %d bytes and said %d", last.bytes, last.said)
			}
		}, under(events(t)), func(s *setup) { s.record, s.steps = record, steps })
	}
}

// Messages that are refused, each answered by a write, are judged on the loop, a few in
// a turn: thirty peers that have thousands of them refused in goroutines take the
// processors from the loops for as long as all of their turns. The rest waits in the
// buffer, which counts in max_memory, for the next turn. What is written is a line of
// the log, which may be slow.
func TestRefusalsOfATurnAreBounded(t *testing.T) {
	for _, record := range []int{0, 100, 16_000} {
		inTunnel(t, func(r *rig) {
			const all = 2000
			for range 3 {
				var wire []byte
				for i := range all {
					wire = append(wire, r.c.frame(true, wsframe.Text, event("small", i, 50))...)
				}
				r.c.raw(wire)
				r.c.send("end")
				synctest.Wait()
				for range all {
					r.c.refused(hostabi.PayloadTooLarge, 20, 50)
				}
				r.u.expect("end")
			}
			synctest.Wait()
			if n := r.memory.Used(); n != 0 {
				t.Errorf("%d bytes of memory are taken", n)
			}
			r.turnsAreBounded()
			if w, ok := r.legs[hostabi.ToUpstream].tr.(*loopWire); ok && w.left > 20 {
				t.Errorf("the loop was left %d times", w.left)
			}
		}, under(events(t)), func(s *setup) { s.record = record })
	}
}

// Messages that are refused arrive, and are answered, also when the peer that sent them
// has gone before their turn came: TLS tells of the end with what came before it.
func TestWhatIsNotJudgedYetIsJudgedAtTheEnd(t *testing.T) {
	inTunnel(t, func(r *rig) {
		var wire []byte
		for i := range 2000 {
			wire = append(wire, r.c.frame(true, wsframe.Text, event("small", i, 50))...)
		}
		wire = append(wire, r.c.frame(true, wsframe.Text, "end")...)
		for range 10 { // until their log says no more
			r.c.send(event("small", 1, 50))
			r.c.refused(hostabi.PayloadTooLarge, 20, 50)
		}
		r.c.w.in.change(func() { r.c.w.in.buf, r.c.w.in.eof = append(r.c.w.in.buf, wire...), true })
		synctest.Wait()
		r.u.expect("end")
		r.turnsAreBounded()
	}, under(events(t)), func(s *setup) { s.record = 16_000 })
}

// So are those that the queue toward the upstream has no place for.
func TestRefusalsByAFullInboxAreBounded(t *testing.T) {
	inTunnel(t, func(r *rig) {
		full := fill(r.c, 1000)
		const all = 20_000
		r.c.raw(bytes.Repeat(r.c.frame(true, wsframe.Text, "m"), 4+all))
		for range all {
			r.c.refused(hostabi.InboxFull, 5, 5)
		}
		synctest.Wait()
		r.turnsAreBounded()
		r.u.expect(full, "m", "m", "m", "m")
	}, func(s *setup) { s.before = func(r *rig) { r.u.w.out.room = 500 } }, with(func(l *config.Limits) { l.MaxInbox = 5 }))
}

// Fragmented messages are sent by themselves, each with a write of its own, and so is
// what stands before a pong that goes no further: ten thousand of them, which a read
// brings, are many turns.
func TestMessagesThatAreSentByThemselvesAreBounded(t *testing.T) {
	const all, interval = 5000, time.Minute
	for name, unit := range map[string]func(r *rig) []byte{
		"fragments": func(r *rig) []byte {
			return append(r.c.frame(false, wsframe.Text, "m"), r.c.frame(true, wsframe.Continuation, "")...)
		},
		"pongs": func(r *rig) []byte {
			time.Sleep(interval + time.Second)
			ping, _ := r.c.next()
			r.u.next()
			return append(r.c.frame(true, wsframe.Text, "m"), r.c.frame(true, wsframe.Pong, ping.payload)...)
		},
	} {
		for _, record := range []int{0, 16_000} {
			t.Run(fmt.Sprint(name, record), func(t *testing.T) {
				inTunnel(t, func(r *rig) {
					r.c.raw(bytes.Repeat(unit(r), all))
					r.c.send("end")
					synctest.Wait()
					w, ok := r.legs[hostabi.ToUpstream].tr.(*loopWire)
					if got := r.carried(hostabi.ToUpstream).Messages; got != all+1 {
						t.Errorf("%d messages went on, want %d", got, all+1)
					}
					if ok && len(w.turns) < all/mostWrites {
						t.Errorf("%d messages were %d turns", all, len(w.turns))
					}
				}, with(func(l *config.Limits) { l.PingInterval = interval }), func(s *setup) { s.record = record })
			})
		}
	}
}

// turnsAreBounded fails when a turn on the client's loop answered many messages.
func (r *rig) turnsAreBounded() {
	r.t.Helper()
	w, ok := r.legs[hostabi.ToUpstream].tr.(*loopWire)
	if !ok {
		return
	}
	for _, turn := range w.turns {
		if turn.writes > mostWrites {
			r.t.Errorf("a turn of %d reads, %d bytes with %d answers said %d", turn.reads, turn.bytes, turn.writes, turn.said)
		}
	}
}

// A key that the tunnel's budget asks nothing about is no reason to leave the loop.
func TestNewKeysAreJudgedOnTheLoop(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for i := range 1000 {
			text := event(fmt.Sprint("new", i), i, 50)
			r.c.send(text)
			r.u.expect(text)
		}
		if w, ok := r.legs[hostabi.ToUpstream].tr.(*loopWire); ok && w.left > 64 {
			t.Errorf("the loop was left %d times", w.left)
		}
	}, under(events(t)))
}

// Records of TLS that are here go on in one write: a peer could have a system call made
// for each byte of a message, with a record each.
func TestRecordsThatAreHereAreOneWrite(t *testing.T) {
	inTunnel(t, func(r *rig) {
		large := event("critical", 0, 100_000)
		r.u.send(large)
		synctest.Wait()
		r.c.expect(large)
		if n := r.legs[hostabi.ToUpstream].tr.(interface{ tried() int64 }).tried(); n > 1000 {
			t.Errorf("%d writes of 100,000 bytes", n)
		}
	}, under(events(t)), func(s *setup) { s.record = 10 })
}

// Less makes a turn long toward a peer that does not read: it is judged, queued
// and shed again and again.
func TestTurnsTowardASlowPeerAreLong(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for i := range 2000 {
			r.u.send(event("presence", i, 1000))
			if i%20 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		w, ok := r.legs[hostabi.ToClient].tr.(*loopWire)
		if !ok {
			return
		}
		long := 0
		for _, turn := range w.turns[len(w.turns)/2:] {
			if turn.said == poll.Long {
				long++
			}
			if (turn.bytes >= slowSize) != (turn.said == poll.Long) {
				t.Errorf("a turn of %d bytes said %d", turn.bytes, turn.said)
			}
		}
		if long == 0 {
			t.Error("no turn was long")
		}
	}, kernel(2000), buffered(600_000), under(events(t)))
}

// Little is read at once toward a peer that reads nothing, and yet frames that
// are longer than that come whole.
func TestLongFramesToASlowPeer(t *testing.T) {
	inTunnel(t, func(r *rig) {
		var sent []string
		for i := range 40 {
			sent = append(sent, event("critical", i, 1000+i%3*30_000))
			r.u.send(sent[i])
		}
		synctest.Wait()
		if r.u.w.in.unread() == 0 {
			t.Error("everything is read")
		}
		r.c.expect(sent...)
	}, kernel(2000), buffered(20_000), under(events(t)))
}

// The limit is strict: at no moment does more wait, whatever the sizes.
func TestBufferedBytesAreStrict(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for i := range 2000 {
			r.u.send(event([]string{"critical", "presence", "state"}[i%3], i, 1+i*7%900, `,"of":1`))
			synctest.Wait()
			if n := r.legs[hostabi.ToUpstream].sink.queue.Bytes(); n > 5000 {
				t.Fatalf("%d bytes wait, max_buffered_bytes is 5000", n)
			}
		}
	}, kernel(1000), buffered(5000), under(events(t)))
}

// Control frames pass behind what waits, whatever the limit; too many of them
// stop their sender like anything else.
func TestControlFramesToASlowPeer(t *testing.T) {
	inTunnel(t, func(r *rig) {
		full := fill(r.u, 5000)
		for i := range 2000 {
			r.u.ping(fmt.Sprintf("%0100d", i))
		}
		synctest.Wait()
		s := &r.legs[hostabi.ToUpstream].sink
		if n := s.queue.ControlBytes(); n > controlCeiling || n < controlCeiling-200 {
			t.Errorf("%d bytes of pings wait", n)
		}
		if r.u.w.in.unread() == 0 {
			t.Error("a flood of pings is read on")
		}
		r.c.expect(full)
		for i := range 2000 {
			r.c.expectFrame(got{wsframe.Ping, true, fmt.Sprintf("%0100d", i)})
		}
	}, kernel(500), buffered(5000))
}

// max_inbox bounds messages that wait toward the upstream: what exceeds it is
// answered and not forwarded.
func TestInbox(t *testing.T) {
	inTunnel(t, func(r *rig) {
		full := fill(r.c, 1000)
		for i := range 10 {
			r.c.send(event("m", i, 50))
		}
		for range 6 {
			r.c.refused(hostabi.InboxFull, 5, 5)
		}
		r.c.silent()
		r.u.expect(full)
		for i := range 4 {
			r.u.expect(event("m", i, 50))
		}
		r.u.silent()
		r.c.send("welcome again")
		r.u.expect("welcome again")
	}, kernel(500), with(func(l *config.Limits) { l.MaxInbox = 5 }))
}

func TestPendingBytes(t *testing.T) {
	inTunnel(t, func(r *rig) {
		full := fill(r.c, 1000)
		r.c.send(event("m", 1, 400), event("m", 2, 400), event("m", 3, 100))
		r.c.refused(hostabi.PendingLimit, 1100, -1)
		r.u.expect(full, event("m", 1, 400), event("m", 3, 100))
		r.u.silent()
	}, kernel(500), with(func(l *config.Limits) { l.MaxPendingBytes = 1100 }))
}

// Nothing is shed for a message that would exceed the limit by itself.
func TestPendingBytesOfOneMessage(t *testing.T) {
	inTunnel(t, func(r *rig) {
		full := fill(r.c, 1000)
		r.c.send(event("presence", 1, 100), event("m", 2, 1200), event("m", 3, large))
		r.c.refused(hostabi.PendingLimit, 1100, -1)
		r.c.refused(hostabi.PendingLimit, 1100, -1)
		r.u.expect(full, event("presence", 1, 100))
		r.u.silent()
	}, kernel(500), under(events(t)), with(func(l *config.Limits) { l.MaxPendingBytes = 1100 }))
}

// While a large message passes, nothing comes between; who is refused meanwhile
// is answered behind it, and not read any more when too many answers wait.
func TestAnswersWaitForALargeMessage(t *testing.T) {
	inTunnel(t, func(r *rig) {
		wire := r.u.frame(true, wsframe.Binary, strings.Repeat("x", large))
		r.u.raw(wire[:large/2])
		synctest.Wait()
		const burst, all = 100, 1000
		for i := range all {
			r.c.send(fmt.Sprint(i))
		}
		r.c.send(strings.Repeat("end", 100_000))
		synctest.Wait()
		if r.c.w.in.unread() == 0 {
			t.Error("a client whose answers wait is read")
		}
		for i := range burst {
			r.u.expect(fmt.Sprint(i))
		}
		r.c.expectBytes(wire[:large/2])
		r.c.silent()
		r.u.raw(wire[large/2:])
		r.c.expectBytes(wire[large/2:])
		for range all - burst + 1 {
			r.c.refused(hostabi.RateLimited, 1, -1)
		}
		r.u.silent()
	}, with(func(l *config.Limits) { l.MessageRate, l.MessageBurst = 1, 100 }))
}

// An envelope that finds its peer slow waits its turn, and so does who caused
// it.
func TestEnvelopesToASlowPeer(t *testing.T) {
	inTunnel(t, func(r *rig) {
		full := fill(r.u, 1500)
		r.u.send(strings.Repeat("q", 900))
		synctest.Wait()
		for range 200 {
			r.c.send(strings.Repeat("x", 2001))
		}
		r.c.send("end")
		synctest.Wait()
		if r.c.w.in.unread() == 0 {
			t.Error("a client that reads no answers is read")
		}
		r.u.silent()
		r.c.expect(full, strings.Repeat("q", 900))
		for range 200 {
			r.c.refused(hostabi.PayloadTooLarge, 2000, 2001)
		}
		r.u.expect("end")
	}, kernel(500), buffered(5000), maxMessage(2000))
}

// Who waits because its answers wait for a large message does so until that one has
// passed, and not for the next.
func TestAnswersWaitForOneLargeMessage(t *testing.T) {
	inTunnel(t, func(r *rig) {
		wire, end := r.u.frame(true, wsframe.Binary, strings.Repeat("x", large)), strings.Repeat("end", 100_000)
		r.u.raw(wire[:large/2])
		synctest.Wait()
		for range 1000 {
			r.c.send(event("small", 1, 21))
		}
		r.c.send(end)
		synctest.Wait()
		if r.c.w.in.unread() == 0 {
			t.Error("a client whose answers wait is read")
		}
		for range 5 {
			r.u.raw(slices.Concat(wire[large/2:], wire[:large/2]))
			synctest.Wait()
		}
		if r.c.w.in.unread() > 0 {
			t.Error("a client whose answers have gone is not read")
		}
		r.u.expect(end)
	}, under(events(t)))
}
