package relay

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/hostabi"
	"weir/proxy/metrics"
	"weir/proxy/wsframe"
)

func TestDrain(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.u.send(strings.Repeat("x", 5000))
		synctest.Wait()
		r.Drain(1500 * 1e6)
		synctest.Wait()
		r.c.expect(strings.Repeat("x", 5000))
		r.c.closed(1012, "retry_after_ms=1500")
		r.u.closed(1012, "draining")
	}, kernel(1000))
}

// What the upstream had said when it learns that the tunnel ends, and says until
// it answers, arrives. What the client says meanwhile has nowhere to go.
func TestTheUpstreamFinishesBeforeADrain(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.c.send("question")
		r.u.expect("question")
		r.u.raw(r.u.frame(true, wsframe.Text, "answer")[:4]) // on its way
		synctest.Wait()
		r.Drain(1500 * 1e6)
		synctest.Wait()
		told := got{wsframe.Close, true, closePayload(1012, "draining: retry_after_ms=1500")}
		r.u.expectFrame(told)
		r.c.silent()
		r.c.send("too late")
		synctest.Wait()
		r.u.raw(r.u.frame(true, wsframe.Text, "answer")[4:])
		r.u.send("more")
		r.c.expect("answer", "more")
		r.u.close(1012, "")
		r.c.closed(1012, "draining: retry_after_ms=1500")
		<-r.ended
		if n := r.metric("weir_messages_dropped_total", "closed"); n != 1 {
			t.Errorf("%v messages of the client's counted as dropped, want 1", n)
		}
		if n := r.metric("weir_ws_closes_total", "1012", "weir"); n != 1 {
			t.Errorf("%v closes by Weir counted, want 1", n)
		}
	})
}

// An upstream that does not answer holds nobody up for long, and not at all when
// the tunnel is closed once more, or when it cannot be told: a large message is on
// its way to it.
func TestAnUpstreamThatDoesNotAnswerADrain(t *testing.T) {
	for name, hurry := range map[string]bool{"once": false, "twice": true} {
		t.Run(name, func(t *testing.T) {
			inTunnel(t, func(r *rig) {
				r.Drain(0)
				r.u.expectFrame(got{wsframe.Close, true, closePayload(1012, "draining: retry_after_ms=0")})
				sleep(4900)
				r.c.silent()
				if hurry {
					r.Drain(0)
				} else {
					sleep(200)
				}
				r.c.closed(1012, "draining")
			})
		})
	}
	t.Run("inside a message", func(t *testing.T) {
		inTunnel(t, func(r *rig) {
			r.c.raw(r.c.frame(true, wsframe.Text, strings.Repeat("x", large))[:large/2])
			synctest.Wait()
			r.Drain(0)
			r.c.closed(1012, "draining")
		})
	})
}

// A drain that finds a close handshake under way lets it go on until drain_timeout, when
// it comes again, and it keeps its cause: Weir did not close that tunnel.
func TestADrainDuringACloseHandshake(t *testing.T) {
	for _, c := range []struct {
		begin  func(r *rig)
		code   uint16
		reason string
		by     string
	}{
		{func(r *rig) { r.c.close(4001, "done") }, 4001, "done", "client"},
		{func(r *rig) { r.u.close(4002, "bye") }, 4002, "bye", "upstream"},
		{func(r *rig) { r.Close(Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "operator"}) }, 1001, "operator", "weir"},
	} {
		inTunnel(t, func(r *rig) {
			c.begin(r)
			synctest.Wait()
			r.Drain(0)
			synctest.Wait()
			if r.Tunnel.ended() {
				t.Error("cut off")
			}
			r.Drain(0)
			r.c.closed(c.code, c.reason)
			r.u.closed(c.code, c.reason)
			<-r.ended
			if n := r.metric("weir_ws_closes_total", closeLabel(c.code), c.by); n != 1 {
				t.Error(r.log)
			}
			if n := r.metric("weir_faults_total", "draining"); n != 0 {
				t.Errorf("%v faults counted as draining", n)
			}
		})
	}
}

// A drain gives a tunnel so much time and no more, whoever closes meanwhile.
func TestACloseDuringADrainGivesNoMoreTime(t *testing.T) {
	inTunnel(t, func(r *rig) {
		began := time.Now()
		r.Drain(0)
		synctest.Wait()
		<-time.After(closeTimeout - time.Second)
		r.c.close(1000, "")
		<-r.done
		if took := time.Since(began); took != closeTimeout {
			t.Errorf("the tunnel ended after %v", took)
		}
	})
}

// A large message on its way to the upstream has the time that a drain gives to end:
// the upstream has it whole, then what was refused meanwhile, and the close frame at once.
func TestADrainInsideALargeMessage(t *testing.T) {
	for _, ends := range []bool{true, false} {
		inTunnel(t, func(r *rig) {
			wire := r.c.frame(true, wsframe.Binary, strings.Repeat("x", large))
			r.c.raw(wire[:large/2])
			synctest.Wait()
			r.u.send(strings.Repeat("y", 2*large))
			synctest.Wait()
			r.Drain(0)
			sleep(4900)
			r.c.silent()
			if ends {
				r.c.raw(wire[large/2:])
				synctest.Wait()
				r.u.expectBytes(wire)
				r.u.refused(hostabi.PayloadTooLarge, large, 2*large)
				if r.u.w.out.unread() == 0 {
					t.Error("the close frame waits for the end of the drain")
				}
				r.u.expectFrame(got{wsframe.Close, true, closePayload(1012, "draining: retry_after_ms=0")})
				r.u.close(1012, "")
				r.u.end()
			}
			sleep(200)
			r.c.closed(1012, "draining")
			<-r.ended
			if !ends && !r.u.w.out.reset {
				t.Error("not reset")
			}
		}, maxMessage(large))
	}
}

// A large message that comes behind the close frame of a drain is lost, and has no
// close frame of its own.
func TestALargeMessageBehindTheEndOfADrain(t *testing.T) {
	inTunnel(t, func(r *rig) {
		wire := r.c.frame(true, wsframe.Binary, strings.Repeat("x", large))
		r.c.raw(wire[:large/2])
		synctest.Wait()
		r.Drain(0)
		synctest.Wait()
		r.c.raw(wire[large/2:])
		r.u.expectBytes(wire)
		r.u.expectFrame(got{wsframe.Close, true, closePayload(1012, "draining: retry_after_ms=0")})
		r.c.raw(wire[:large/2])
		synctest.Wait()
		r.u.close(1012, "")
		r.u.end()
		if rest := r.u.read(100); len(rest) > 0 {
			t.Errorf("behind the close frame the upstream received %q", rest)
		}
	})
}

// What the upstream had sent arrives, too, at a client that takes longer for it than the
// upstream has to answer: the answer stands behind it.
func TestADrainWaitsForASlowClient(t *testing.T) {
	inTunnel(t, func(r *rig) {
		var sent []string
		for i := range 100 {
			sent = append(sent, event("critical", i, 1000))
		}
		r.u.send(sent...)
		synctest.Wait()
		r.Drain(0)
		synctest.Wait()
		r.u.close(1012, "")
		for _, s := range sent {
			sleep(300)
			r.c.expect(s)
		}
		r.c.closed(1012, "draining")
	}, kernel(2000), buffered(5000))
}

// It is cut off when it takes nothing for slow_consumer_grace, and where the upstream
// talks on for ever.
func TestADrainDoesNotWaitForEver(t *testing.T) {
	for _, reads := range []bool{true, false} {
		inTunnel(t, func(r *rig) {
			r.u.send(event("critical", 0, 1000), event("critical", 1, 9000))
			synctest.Wait()
			r.Drain(0)
			began := time.Now()
			for i := 2; !r.Tunnel.ended(); i++ {
				if reads {
					r.c.read(9000)
				}
				r.u.send(event("critical", i, 9000))
				sleep(300)
			}
			if took, most := time.Since(began), finishTimeout+2*closeTimeout; took > most {
				t.Errorf("ended after %v", took)
			}
		}, kernel(500), buffered(5000))
	}
}
