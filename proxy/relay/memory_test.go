package relay

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/hostabi"
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
	}, memory(10_000))
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
				for _, pieces := range []int{1 << 20, 700} {
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
