package relay

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/policy/policytest"
	"weir/proxy/wsframe"
)

// Toward a slow peer droppable messages go, the oldest first, with one notice
// for each run of them.
func TestShedding(t *testing.T) {
	inTunnel(t, func(r *rig) {
		full := fill(r.u, 2000)
		var presence []string
		for i := range 100 {
			presence = append(presence, event("presence", i, 500))
			r.u.send(presence[i])
		}
		r.u.send("critical")
		f := r.carried(hostabi.ToClient)
		if f.Shed < 80 || f.Shed > 95 || r.u.w.in.unread() > 0 {
			t.Fatalf("%d are shed, %d bytes unread", f.Shed, r.u.w.in.unread())
		}
		r.c.expect(full, fmt.Sprintf(`{"gap":%d}`, f.Shed))
		r.c.expect(presence[f.Shed:]...)
		r.c.expect("critical")
		r.c.silent()
		if n := r.metric("weir_messages_dropped_total", "shed"); int64(n) != f.Shed {
			t.Errorf("%v counted as shed, want %d", n, f.Shed)
		}
		if got, want := r.carried(hostabi.ToClient).Messages, 102-f.Shed; got != want {
			t.Errorf("%d messages counted as passed on, want %d", got, want)
		}
	}, kernel(500), buffered(5000), under(events(t)))
}

func TestMaxBufferedBytesChanges(t *testing.T) {
	inTunnel(t, func(r *rig) {
		fill(r.u, 1000)
		set := *r.route.Load()
		set.Limits.MaxBufferedBytes = 64 << 10
		r.route.Store(&set)
		for i := range 20 {
			r.u.send(event("presence", i, 200))
		}
		if f := r.carried(hostabi.ToClient); f.Shed != 0 || f.QueuedMessages != 21 {
			t.Errorf("%d are shed and %d wait", f.Shed, f.QueuedMessages)
		}
	}, kernel(500), buffered(1500), under(events(t)))
}

// A message that is delivered between shed ones ends their run.
func TestOneNoticePerRun(t *testing.T) {
	inTunnel(t, func(r *rig) {
		full := fill(r.u, 2000)
		for range 3 {
			r.u.send(event("presence", 0, 100), event("presence", 1, 100), "kept")
		}
		synctest.Wait()
		r.Shed()
		if f := r.carried(hostabi.ToClient); f.Shed != 6 || f.QueuedMessages != 4 {
			t.Errorf("%d are shed and %d wait, want 6 and 4", f.Shed, f.QueuedMessages)
		}
		r.c.expect(full)
		for range 3 {
			r.c.expect(`{"gap":2}`, "kept")
		}
		r.c.silent()
	}, kernel(500), under(events(t)))
}

func TestSheddingByRule(t *testing.T) {
	for _, c := range []struct {
		fact       string
		sent, want []string // behind the message that fills the kernel
	}{
		{"unless a field is there", []string{event("presence", 0, 600, `,"seq":1`), event("presence", 1, 600)}, []string{event("presence", 0, 600, `,"seq":1`), `{"gap":1}`}},
		{"a lower priority first", []string{event("pp", 0, 600), event("presence", 1, 600), "end"}, []string{event("pp", 0, 600), `{"gap":1}`, "end"}},
		{"the newest state of each name stays", []string{
			event("state", 0, 300, `,"of":1`), event("state", 1, 300, `,"of":2`), event("state", 2, 300, `,"of":1`), event("state", 3, 300, `,"of":1`),
		}, []string{event("state", 1, 300, `,"of":2`), event("state", 3, 300, `,"of":1`)}},
		{"a state without its name is like any other", []string{event("state", 0, 600), event("state", 1, 600)}, []string{`{"gap":1}`, event("state", 1, 600)}},
	} {
		t.Run(c.fact, func(t *testing.T) {
			inTunnel(t, func(r *rig) {
				full := fill(r.u, 1000)
				r.u.send(c.sent...)
				synctest.Wait()
				r.c.expect(append([]string{full}, c.want...)...)
				r.c.silent()
			}, kernel(500), with(func(l *config.Limits) { l.MaxBufferedBytes = 1650 }), under(events(t)))
		})
	}
}

// A full inbox is no reason to lose what is newer, or may not be lost: what may be shed
// makes room as it does for want of bytes, in that order.
func TestAFullInboxSheds(t *testing.T) {
	for _, c := range []struct {
		fact       string
		sent, want []string // behind the message that fills the kernel
	}{
		{"the newest state stays", []string{cursor(1), cursor(2), cursor(3), cursor(4), cursor(5)}, []string{cursor(4), cursor(5)}},
		{"the oldest goes first", []string{event("presence", 1, 100), event("presence", 2, 100), event("presence", 3, 100)}, []string{`{"gap":1}`, event("presence", 2, 100), event("presence", 3, 100)}},
		{"a lower priority makes no room for itself", []string{event("pp", 1, 100), event("pp", 2, 100), event("presence", 3, 100)}, []string{event("pp", 1, 100), event("pp", 2, 100), `{"gap":1}`}},
		{"critical ones stay", []string{event("presence", 1, 100), event("pp", 2, 100), event("m", 3, 100), event("m", 4, 100)}, []string{`{"gap":2}`, event("m", 3, 100), event("m", 4, 100)}},
		{"for a large one, too", []string{event("presence", 1, 100), event("presence", 2, 100), event("m", 3, large)}, []string{`{"gap":1}`, event("presence", 2, 100), event("m", 3, large)}},
	} {
		for name, limit := range map[string]func(*config.Limits){
			"max_inbox":         func(l *config.Limits) { l.MaxInbox = 3 },
			"max_pending_bytes": func(l *config.Limits) { l.MaxPendingBytes = 750 },
		} {
			if len(c.sent) == 3 && len(c.sent[2]) > 750 && name == "max_pending_bytes" {
				continue // it would fit in no case
			}
			t.Run(c.fact+", "+name, func(t *testing.T) {
				inTunnel(t, func(r *rig) {
					full := fill(r.c, 1000)
					r.c.send(c.sent...)
					synctest.Wait()
					r.u.expect(append([]string{full}, c.want...)...)
					r.u.silent()
					r.c.silent()
				}, kernel(500), buffered(1<<20), with(limit), under(events(t)))
			})
		}
	}
}

// cursor is one of those that supersede each other.
func cursor(id int) string { return event("state", id, 100, `,"of":1`) }

// sendTogether has the client send n messages at once.
func (r *rig) sendTogether(n int) (sent []string) {
	var wire []byte
	for i := range n {
		sent = append(sent, event("m", i, 100))
		wire = append(wire, r.c.frame(true, wsframe.Text, sent[i])...)
	}
	r.c.raw(wire)
	synctest.Wait()
	return sent
}

// What is encrypted can be given up no more, and is as good as gone: a record of many
// messages fills no inbox, or the newest state would be dropped behind it.
func TestARecordFillsNoInbox(t *testing.T) {
	inTunnel(t, func(r *rig) {
		want := r.sendTogether(20)
		for i := range 10 {
			r.c.send(cursor(i))
			synctest.Wait()
		}
		if f := r.carried(hostabi.ToUpstream); f.Shed+f.Refused != 0 {
			t.Errorf("%+v", f)
		}
		r.c.send("one that waits", "another")
		synctest.Wait()
		r.u.expect(append(want, cursor(8), cursor(9), "one that waits", "another")...)
		r.u.silent()

		// So is what the writer has encrypted of what waited.
		const wire = 5000 + 8
		fill(r.c, 5000)
		for i := range 4 {
			r.c.send(event("m", i, 100))
		}
		synctest.Wait()
		r.u.read(wire - 400)
		synctest.Wait()
		r.c.send(cursor(10), cursor(11))
		synctest.Wait()
		r.u.read(400)
		for i := range 4 {
			r.u.expect(event("m", i, 100))
		}
		r.u.expect(cursor(10), cursor(11))
		r.c.silent()
	}, kernel(500), with(func(l *config.Limits) { l.MaxInbox = 5 }), under(events(t)), func(s *setup) { s.record = 16_000 })
}

// Nor do its bytes count in max_pending_bytes, which may be less than a record has.
func TestARecordTakesNoPendingBytes(t *testing.T) {
	inTunnel(t, func(r *rig) {
		want := r.sendTogether(20)
		r.c.send(event("m", 20, 300), event("m", 21, 300))
		r.c.refused(hostabi.PendingLimit, 500, 2*308)
		for i := range 10 {
			r.c.send(cursor(i))
			synctest.Wait()
		}
		r.u.expect(append(want, event("m", 20, 300), cursor(9))...)
		r.u.silent()
		r.c.silent()
	}, kernel(500), with(func(l *config.Limits) { l.MaxPendingBytes = 500 }), under(events(t)), func(s *setup) { s.record = 16_000 })
}

// What a new policy calls a state is another than what the old one called by the same
// name: each is kept.
func TestStatesOfAnotherPolicyAreKept(t *testing.T) {
	inTunnel(t, func(r *rig) {
		full := fill(r.u, 1000)
		old := event("state", 0, 300, `,"of":1,"by":2`)
		r.u.send(old)
		synctest.Wait()
		set := *r.route.Load()
		set.View = events(r.t, func(f *policytest.Funcs) {
			f.Classify = func(*hostabi.ClassifyInput) (hostabi.Rule, bool) {
				return hostabi.Rule{Class: hostabi.Droppable, Conflate: "/by"}, true
			}
		}).View("r")
		r.route.Store(&set)
		newer := []string{event("state", 1, 300, `,"of":2,"by":1`), event("state", 2, 300, `,"of":2,"by":1`), event("state", 3, 300, `,"of":3,"by":1`)}
		r.u.send(newer...)
		synctest.Wait()
		r.c.expect(full, old, newer[2])
		r.c.silent()
	}, kernel(500), with(func(l *config.Limits) { l.MaxBufferedBytes = 1650 }), under(events(t)))
}

// Nor does it matter that it is the same policy, which has changed its mind about them.
func TestStatesByAnotherFieldAreKept(t *testing.T) {
	inTunnel(t, func(r *rig) {
		full := fill(r.u, 1000)
		old := event("state", 0, 300, `,"of":1,"by":2`)
		r.u.send(old)
		sleep(1100) // the rule is asked for again
		newer := []string{event("state", 1, 300, `,"of":2,"by":1`), event("state", 2, 300, `,"of":2,"by":1`), event("state", 3, 300, `,"of":3,"by":1`)}
		r.u.send(newer...)
		synctest.Wait()
		r.c.expect(full, old, newer[2])
		r.c.silent()
	}, kernel(500), with(func(l *config.Limits) { l.MaxBufferedBytes = 1650 }), func(s *setup) {
		first := time.Time{}
		under(events(t, func(f *policytest.Funcs) {
			f.Seconds = 1
			f.Classify = func(*hostabi.ClassifyInput) (hostabi.Rule, bool) {
				field := "/by"
				if first.IsZero() || time.Since(first) < time.Second {
					first, field = time.Now(), "/of"
				}
				return hostabi.Rule{Class: hostabi.Droppable, Conflate: field}, true
			}
		}))(s)
	})
}

// A message whose event key stands behind what is read of it may be of a kind that is
// never shed, whatever is said of messages without a key.
func TestAKeyOutOfSightIsCritical(t *testing.T) {
	everything := func(f *policytest.Funcs) {
		f.Shape.EventKey = []string{"/type", "/sub"}
		f.Classify = func(in *hostabi.ClassifyInput) (hostabi.Rule, bool) {
			return hostabi.Rule{Class: hostabi.Droppable, MaxSize: 6000}, !strings.HasPrefix(string(in.Key), "order")
		}
	}
	pad := strings.Repeat(".", peekSize)
	for _, message := range []string{
		`{"pad":"` + pad + `","type":"order"}`,
		`{"type":"order","pad":"` + pad + `"}`, // has no /sub, which might follow
	} {
		inTunnel(t, func(r *rig) {
			full := fill(r.c, 1000)
			r.c.send(`{"type":"other"}`, message)
			half := len(message) / 2
			r.c.raw(r.c.frame(false, wsframe.Text, message[:half]), r.c.frame(true, wsframe.Continuation, message[half:]))
			synctest.Wait()
			r.Shed()
			r.u.expect(full, `{"gap":1}`, message)
			r.u.expectBytes(append(r.c.frame(false, wsframe.Text, message[:half]), r.c.frame(true, wsframe.Continuation, message[half:])...))
			r.c.send(message + strings.Repeat(" ", 2000))
			r.c.refused(hostabi.PayloadTooLarge, 6000, int64(len(message)+2000))
		}, kernel(500), under(events(t, everything)))
	}
}

// Without a template there is no notice.
func TestNoNoticeWithoutATemplate(t *testing.T) {
	inTunnel(t, func(r *rig) {
		full := fill(r.u, 1000)
		r.u.send(event("presence", 0, 100), "kept")
		synctest.Wait()
		r.Shed()
		r.c.expect(full, "kept")
		r.c.silent()
	}, kernel(500), under(events(t, func(f *policytest.Funcs) { f.Error = nil })))
}

// Droppable messages that are fragmented are shed whole, also when the first fragment
// does not tell that they are.
func TestFragmentedMessagesAreShedWhole(t *testing.T) {
	inTunnel(t, func(r *rig) {
		full := fill(r.u, 1000)
		s := event("presence", 0, 300)
		for _, n := range []int{100, 5, 0} {
			r.u.raw(r.u.frame(false, wsframe.Text, s[:n]), r.u.frame(true, wsframe.Continuation, s[n:]))
		}
		r.u.send("kept")
		synctest.Wait()
		r.Shed()
		r.c.expect(full, `{"gap":3}`, "kept")
	}, kernel(500), under(events(t)))
}

// A message that could never wait is shed where nothing waits, and that is told as soon
// as the peer reads on.
func TestAGapBehindNothingIsTold(t *testing.T) {
	inTunnel(t, func(r *rig) {
		filler := strings.Repeat("f", 1996) // all that the kernel takes, with its header
		r.u.send(filler)
		r.u.send(event("presence", 1, 1000))
		synctest.Wait()
		began := time.Now()
		r.c.expect(filler, `{"gap":1}`)
		if d := time.Since(began); d != 0 {
			t.Errorf("it is told after %v", d)
		}
	}, kernel(2000), buffered(500), under(events(t)))
}
