package relay

import (
	"strings"
	"testing"
	"testing/synctest"

	"weir/hostabi"
	"weir/proxy/metrics"
	"weir/proxy/wsframe"
)

// A sender that dies inside a large message of which nothing is on the wire yet takes
// nothing with it: what waits before that is delivered, and the close frame behind it.
func TestSourceDiesInsideAMessageThatWaits(t *testing.T) {
	for _, size := range []int{large, 2 * large} { // the queue holds one, and not the other
		for way := range 2 {
			for _, record := range []int{0, 700} {
				inTunnel(t, func(r *rig) {
					from, to := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
					first := fill(from, 1000)
					from.send("waits")
					from.raw(from.frame(true, wsframe.Binary, strings.Repeat("x", size))[:size-1000])
					synctest.Wait()
					from.end()
					if size > large {
						sleep(1) // toward who takes nothing, it is not read on
						r.Close(Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "over"})
						r.Close(Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "over"})
					}
					synctest.Wait()
					to.expect(first, "waits")
					g, err := to.next()
					if err != nil || g.op != wsframe.Close {
						t.Errorf("%s received %v, %v", to.name, g, err)
					}
					<-r.ended
				}, kernel(500), func(s *setup) { s.record = record }, buffered(large+50_000))
			}
		}
	}
}

// A large message whose first bytes TLS has taken, though none of them is sent, has
// begun: it can not be taken back, and nothing follows what comes of it.
func TestARecordThatWaitsIsAPartOfItsMessage(t *testing.T) {
	inTunnel(t, func(r *rig) {
		wire := r.c.frame(true, wsframe.Binary, strings.Repeat("x", large))[:large/2]
		r.c.raw(wire)
		synctest.Wait()
		r.c.end()
		synctest.Wait()
		if got := r.u.read(1000); !strings.HasPrefix(string(wire), string(got)) {
			t.Errorf("the upstream received %q", got)
		}
	}, kernel(3), func(s *setup) { s.record = 5 }, buffered(large+50_000))
}

// So has one whose first part went out at once, and the next part not.
func TestAPartThatWaitsBehindOneThatDidNot(t *testing.T) {
	inTunnel(t, func(r *rig) {
		wire := r.c.frame(true, wsframe.Binary, strings.Repeat("x", large))[:large/2]
		r.c.raw(wire[:large/3])
		synctest.Wait()
		if n := r.u.w.out.unread(); n != large/3 {
			t.Errorf("%d bytes are passed on, want %d", n, large/3)
		}
		r.c.raw(wire[large/3:])
		synctest.Wait()
		r.c.end()
		synctest.Wait()
		if got := r.u.read(large); !strings.HasPrefix(string(wire), string(got)) {
			t.Errorf("behind %d bytes the upstream received %.100q", large/3, got[min(large/3, len(got)):])
		}
	}, kernel(large/3), buffered(large+50_000))
}

// The envelope for what the upstream did not get any more is not lost either, nor is
// what was refused meanwhile.
func TestAnswersBesideALargeMessageThatWaits(t *testing.T) {
	inTunnel(t, func(r *rig) {
		first := fill(r.u, 1000)
		fill(r.c, 1000)
		r.u.raw(r.u.frame(true, wsframe.Binary, strings.Repeat("x", large))[:large/2])
		synctest.Wait()
		r.c.send(strings.Repeat("y", 2*large), "lost")
		synctest.Wait()
		r.u.end()
		synctest.Wait()
		r.c.expect(first)
		r.c.refused(hostabi.PayloadTooLarge, large, 2*large)
		if e := r.c.envelope(); e.Code != string(hostabi.UpstreamClosed) {
			t.Errorf("%+v", e)
		}
		r.c.closed(1012, "upstream_closed")
	}, kernel(500), maxMessage(large), buffered(large+50_000))
}

// Shed messages are told though the large one behind them goes.
func TestAGapBeforeALargeMessageThatGoes(t *testing.T) {
	inTunnel(t, func(r *rig) {
		first := fill(r.u, 1000)
		for i := range 20 {
			r.u.send(event("presence", i, 1000))
		}
		r.u.raw(r.u.frame(true, wsframe.Binary, strings.Repeat("x", large))[:large/2])
		synctest.Wait()
		shed := r.carried(hostabi.ToClient).Shed
		if shed == 0 || shed == 20 {
			r.t.Fatalf("%d are shed", shed)
		}
		r.u.end()
		synctest.Wait()
		h := heard{codes: map[string]int{}}
		r.c.expect(first)
		for {
			g, err := r.c.next()
			if err != nil {
				r.t.Fatal(err)
			}
			if g.op == wsframe.Close {
				break
			}
			h.note(r.c, g.payload)
		}
		if int64(h.gaps) != shed || len(h.ids) != 20-int(shed) {
			t.Errorf("%d of 20 are shed, notices tell of %d, %d came", shed, h.gaps, len(h.ids))
		}
	}, kernel(500), under(events(t)), buffered(large+10_000))
}
