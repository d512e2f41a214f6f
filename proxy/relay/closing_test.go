package relay

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/proxy/metrics"
	"weir/proxy/wsframe"
)

// A close frame stands behind what waits for a slow peer, and the answer to it behind what
// waits for the one that closed. Whoever goes on reading has time for that: what each
// had sent by its own close frame arrives.
func TestACloseHandshakeWaitsForWhoReadsSlowly(t *testing.T) {
	for _, c := range []struct {
		name   string
		slow   [2]bool // by hostabi.Direction of what is sent
		closes [2]bool // at once; else it answers
	}{
		{"the client closes and reads slowly", [2]bool{false, true}, [2]bool{true, false}},
		{"the upstream closes and reads slowly", [2]bool{true, false}, [2]bool{false, true}},
		{"the client closes, the upstream reads slowly", [2]bool{true, false}, [2]bool{true, false}},
		{"the upstream closes, the client reads slowly", [2]bool{false, true}, [2]bool{false, true}},
		{"both close, the client reads slowly", [2]bool{false, true}, [2]bool{true, true}},
		{"both close, the upstream reads slowly", [2]bool{true, false}, [2]bool{true, true}},
		{"both close and read slowly", [2]bool{true, true}, [2]bool{true, true}},
	} {
		for _, room := range []int{2000, 0} { // 0: the kernel has all that waits
			t.Run(fmt.Sprint(c.name, ", ", room), func(t *testing.T) {
				inTunnel(t, func(r *rig) {
					peers := [2]*peer{r.c, r.u}
					var sent []string
					for i := range 100 {
						sent = append(sent, event("critical", i, 1000))
					}
					var all sync.WaitGroup
					for d, from := range peers {
						from.send(sent...)
						if c.closes[d] {
							from.close(4001, "")
						}
					}
					for d, to := range [2]*peer{r.u, r.c} {
						back := event("reply", 0, 1000)
						all.Go(func() {
							for i, s := range sent {
								if c.slow[d] {
									sleep(300)
								}
								if g, err := to.next(); err != nil || g.payload != s {
									t.Errorf("the %s, message %d: %v, %v", to.name, i, g, err)
									return
								}
							}
							if !c.closes[d^1] { // what it makes of them is the last that it says
								to.send(back)
								to.close(4001, "")
							} else if g, err := to.next(); !c.closes[d] && (err != nil || g.payload != back) {
								t.Errorf("the %s, the reply: %v, %v", to.name, g, err)
							}
						})
					}
					all.Wait()
					<-r.ended
					if n := r.metric("weir_messages_dropped_total", "closed"); n != 0 {
						t.Errorf("%v messages were dropped", n)
					}
				}, kernel(room), buffered(5000))
			})
		}
	}
}

// Who goes on taking a little of what is left for it does not keep a tunnel from whoever
// closes that once more, wherever the rest waits.
func TestATunnelThatHasEndedCanBeCutOff(t *testing.T) {
	for _, room := range []int{500, 0} {
		inTunnel(t, func(r *rig) {
			for i := range 40 {
				r.u.send(event("critical", i, 1000))
			}
			synctest.Wait()
			trickle := func() {
				for range 100 {
					r.c.read(10)
					sleep(100)
				}
			}
			for range 2 {
				r.Close(Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "first"})
				trickle()
			}
			select {
			case <-r.ended:
				t.Fatal("cut off before")
			default:
			}
			r.Close(Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "third"})
			sleep(1100)
			synctest.Wait()
			select {
			case <-r.ended:
			default:
				t.Error("it is still there")
			}
			r.c.w.out.change(func() {
				if !r.c.w.out.reset {
					t.Error("was not reset")
				}
			})
			r.u.closed(1001, "first")
		}, kernel(room), buffered(20_000))
	}
}

// Who takes nothing of what the kernel has for it has no longer than others.
func TestACloseHandshakeDoesNotWaitForWhoReadsNothing(t *testing.T) {
	for name, end := range map[string]func(r *rig){
		"a close frame": func(r *rig) { r.c.close(4001, "") },
		"a drain":       func(r *rig) { r.Drain(0) },
	} {
		t.Run(name, func(t *testing.T) {
			inTunnel(t, func(r *rig) {
				for i := range 40 {
					r.c.send(event("critical", i, 1000))
				}
				r.u.read(100) // and no more
				end(r)
				sleep(5_100)
				synctest.Wait()
				if !r.Tunnel.ended() {
					t.Error("it waits")
				}
			})
		})
	}
}

// So does an upstream that takes a large message slowly when Weir closes the tunnel.
func TestADrainWaitsForALargeMessage(t *testing.T) {
	for _, room := range []int{2000, 0} {
		inTunnel(t, func(r *rig) {
			wire := r.c.frame(true, wsframe.Binary, strings.Repeat("x", large))
			r.c.raw(wire)
			synctest.Wait()
			r.Drain(0)
			var came []byte
			for len(came) < len(wire) {
				sleep(300)
				came = append(came, r.u.read(min(len(wire)-len(came), large/50))...)
				if r.u.w.out.reset || r.u.w.out.eof {
					t.Fatalf("%d of %d bytes came", len(came), len(wire))
				}
			}
			if !bytes.Equal(came, wire) {
				t.Error("altered")
			}
			r.u.expectFrame(got{wsframe.Close, true, closePayload(1012, "draining: retry_after_ms=0")})
			r.u.send("late")
			r.u.close(1012, "")
			r.c.expect("late")
			r.c.closed(1012, "draining")
		}, kernel(room), maxMessage(large))
	}
}

// Who sends refused messages without end, in TLS records, does not keep its tunnel from
// ending: the pump that answers them has left its loop, and takes no more than it has.
func TestAFloodOfRefusalsEndsWithItsTunnel(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.c.raw(bytes.Repeat(r.c.frame(true, wsframe.Binary, "too large"), 100_000))
		synctest.Wait() // the answers wait for the client
		for range 2 {
			r.Close(Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "over"})
		}
		sleep(1)
		if n := r.metric("weir_messages_dropped_total", "oversize"); n > 2*bufferSize/10 {
			t.Errorf("%v messages were judged, most of them behind the end", n)
		}
	}, kernel(1000), buffered(1000), maxMessage(1), func(s *setup) { s.record = 1000 })
}

// Nor does it when Weir has told the upstream: what is refused then goes nowhere, like
// all that comes, and is not answered.
func TestRefusalsDoNotPutOffAnEnd(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.Close(Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "over"})
		for range 60 {
			for range 10 {
				r.c.send("too large")
			}
			r.c.read(min(300, r.c.w.out.unread())) // slowly
			sleep(100)
		}
		if !r.Tunnel.ended() {
			t.Error("the tunnel goes on")
		}
	}, kernel(1000), buffered(1000), maxMessage(1))
}

// So does what comes slowly: messages that a peer had sent before it was told of the close
// may be under way for long. Who says nothing more has no more than closeTimeout.
func TestACloseHandshakeWaitsForWhatComesSlowly(t *testing.T) {
	const messages = 12 // one each 1.1 s: none just when Weir looks, which takes it for one that waits
	run := func(upstream, answers bool) {
		inTunnel(t, func(r *rig) {
			late, closes := r.c, r.u
			if upstream {
				late, closes = r.u, r.c
			}
			closes.close(4001, "")
			if g, err := late.next(); err != nil || g.op != wsframe.Close {
				t.Fatalf("the %s: %v, %v", late.name, g, err)
			}
			for i := range messages {
				sleep(1100)
				m := event("late", i, 1000)
				late.send(m)
				if g, err := closes.next(); err != nil || g.payload != m {
					t.Fatalf("the %s, message %d: %v, %v", closes.name, i, g, err)
				}
			}
			began := time.Now()
			if answers {
				late.close(4002, "")
				closes.closed(4002, "")
			}
			<-r.done
			if took := time.Since(began); answers != (took == 0) || took > closeTimeout {
				t.Errorf("answers: %v; the tunnel ended after %v", answers, took)
			}
		})
	}
	for _, upstream := range []bool{false, true} {
		for _, answers := range []bool{true, false} {
			run(upstream, answers)
		}
	}
}
