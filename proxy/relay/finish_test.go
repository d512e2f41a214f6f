package relay

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/metrics"
	"weir/proxy/policy"
	"weir/proxy/sock"
	"weir/proxy/wsframe"
)

// A drain that finds a close handshake under way ends it at once, and it keeps its
// cause: Weir did not close that tunnel.
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

// A peer that takes no more may still say why: that is what the tunnel ends for.
func TestAReasonBehindAFailedWrite(t *testing.T) {
	for _, c := range []struct {
		d       hostabi.Direction // of what is not taken
		by      string
		faulted float64 // when nothing else is said
	}{
		{hostabi.ToUpstream, "upstream", 1},
		{hostabi.ToClient, "client", 0},
	} {
		for _, says := range []bool{true, false} {
			inTunnel(t, func(r *rig) {
				from, to := r.c, r.u
				if c.d == hostabi.ToClient {
					from, to = r.u, r.c
				}
				to.w.out.change(func() { to.w.out.reset = true })
				from.send("nobody takes this")
				synctest.Wait()
				code, faults := uint16(4002), 0.0
				if says {
					to.close(code, "why")
					from.closed(code, "why")
				} else {
					to.lose()
					faults = c.faulted
				}
				<-r.ended
				if n := r.metric("weir_ws_closes_total", closeLabel(code), c.by); says && n != 1 {
					t.Errorf("%s: %v", c.by, r.log)
				}
				if n := r.metric("weir_faults_total", "upstream_closed"); n != faults {
					t.Errorf("%s, with a reason: %v: %v faults counted, want %v", c.by, says, n, faults)
				}
			})
		}
	}
}

// What the other side says then is not why.
func TestACloseBehindAFailedWriteToTheOtherSide(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.c.w.out.change(func() { r.c.w.out.reset = true })
		r.u.send("nobody takes this")
		synctest.Wait()
		r.u.close(4002, "bye")
		<-r.ended
		if n := r.metric("weir_ws_closes_total", closeLabel(1001), "client"); n != 1 {
			t.Error(r.log)
		}
	})
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

// An upstream that is gone without a word: what it said is delivered, then the
// client learns that it may come back.
func TestUpstreamLost(t *testing.T) {
	for name, lose := range map[string]func(*peer){"ended": (*peer).end, "reset": (*peer).lose} {
		t.Run(name, func(t *testing.T) {
			inTunnel(t, func(r *rig) {
				big := strings.Repeat("x", 3000)
				r.u.send(big, "last words")
				synctest.Wait()
				lose(r.u)
				synctest.Wait()
				sleep(2000) // the client reads late
				r.c.expect(big, "last words")
				r.c.closed(1012, "upstream_closed")
				<-r.ended
				if n := r.metric("weir_faults_total", "upstream_closed"); n != 1 {
					t.Errorf("%v faults counted", n)
				}
			}, kernel(1000))
		})
	}
}

// Messages that were on their way to a lost upstream are answered for.
func TestUndeliveredMessagesAreAnswered(t *testing.T) {
	for name, lose := range map[string]func(*peer){"ended": (*peer).end, "reset": (*peer).lose} {
		t.Run(name, func(t *testing.T) {
			inTunnel(t, func(r *rig) {
				for range 5 {
					r.c.send(strings.Repeat("x", 100))
				}
				synctest.Wait()
				r.u.send("last words")
				synctest.Wait()
				lose(r.u)
				r.c.expect("last words")
				e := r.c.envelope()
				if e.Code != "upstream_closed" || !strings.HasPrefix(e.Message, "5 messages") || !e.Retryable {
					t.Errorf("%+v", e)
				}
				r.c.closed(1012, "upstream_closed")
			}, kernel(20))
		})
	}
}

// That is so, too, when a large message of the upstream's has not been begun for want
// of room.
func TestUndeliveredMessagesAreAnsweredBeforeALargeOne(t *testing.T) {
	inTunnel(t, func(r *rig) {
		waiting := strings.Repeat("w", 60_000)
		r.u.send(waiting, waiting, strings.Repeat("l", 100_000))
		for range 5 {
			r.c.send(strings.Repeat("x", 100))
		}
		synctest.Wait()
		r.u.lose()
		sleep(1500)
		r.c.expect(waiting, waiting)
		if e := r.c.envelope(); e.Code != "upstream_closed" || !strings.HasPrefix(e.Message, "5 messages") {
			t.Errorf("%+v", e)
		}
		r.c.closed(1012, "upstream_closed")
	}, kernel(20), buffered(150_000))
}

// What the client was told is lost, and may send again elsewhere, does not arrive
// after all at an upstream that reads on.
func TestWhatWasAnsweredDoesNotArrive(t *testing.T) {
	for name, lose := range map[string]func(*peer){"half closed": (*peer).end, "silent": func(*peer) {}} {
		for _, room := range []int{20, 106, 116} { // into the first message, to its end, and beyond
			t.Run(fmt.Sprint(name, room), func(t *testing.T) {
				inTunnel(t, func(r *rig) {
					for range 5 {
						r.c.send(strings.Repeat("x", 100))
					}
					synctest.Wait()
					lose(r.u)
					var told string
					for told == "" {
						g, err := r.c.next()
						switch {
						case err != nil:
							t.Fatal(err)
						case g.op == wsframe.Ping:
							r.c.pong(g.payload)
						default:
							told = g.payload
						}
					}
					arrived := 0
					for {
						g, err := r.u.next()
						if err != nil || g.op == wsframe.Close {
							break
						}
						if g.op == wsframe.Text {
							arrived++
						}
					}
					if want := fmt.Sprintf(`"message":"%d messages were waiting`, 5-arrived); !strings.Contains(told, want) {
						t.Errorf("%d of 5 messages have arrived, and the client was told %s", arrived, told)
					}
				}, kernel(room), pingEvery(10*time.Second))
			})
		}
	}
}

// A client that keeps talking to an upstream which takes nothing any more gets
// all that the upstream has said before.
func TestLastWordsBehindAFailedWrite(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.u.w.out.change(func() { r.u.w.out.reset = true }) // writes fail from here on
		r.c.send("into the void")
		synctest.Wait()
		r.u.send("last words")
		r.c.expect("last words")
		r.u.end()
		if e := r.c.envelope(); e.Code != "upstream_closed" {
			t.Errorf("%+v", e)
		}
		r.c.closed(1012, "upstream_closed")
	})
}

// An upstream that takes nothing and says nothing has a second.
func TestFailedWriteEndsTheTunnel(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.u.w.out.change(func() { r.u.w.out.reset = true })
		r.c.send("into the void")
		sleep(900)
		r.c.silent()
		sleep(200)
		r.c.envelope()
		r.c.closed(1012, "upstream_closed")
	})
}

func TestClientLost(t *testing.T) {
	for name, lose := range map[string]func(*peer){"ended": (*peer).end, "reset": (*peer).lose} {
		t.Run(name, func(t *testing.T) {
			inTunnel(t, func(r *rig) {
				r.c.send("bye")
				synctest.Wait()
				lose(r.c)
				r.u.expect("bye")
				r.u.closed(1001, "client connection")
			})
		})
	}
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

// A close frame of which the kernel took half is one: no other follows it.
func TestACloseFrameInTwoPieces(t *testing.T) {
	for way := range 2 {
		inTunnel(t, func(r *rig) {
			from, to := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
			full := fill(from, 480)
			from.close(1000, "goodbye")
			synctest.Wait()
			r.Drain(0)
			to.expect(full)
			to.expectFrame(got{wsframe.Close, true, closePayload(1000, "goodbye")})
			if g, err := to.next(); err == nil {
				t.Errorf("%s received %v behind a close frame", to.name, g)
			}
		}, kernel(500))
	}
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

// Who has sent a close frame and reads no more, though the other side talks on, has
// closed, and is no slow consumer.
func TestAPeerThatHasClosedIsNoSlowConsumer(t *testing.T) {
	for way := range 2 {
		inTunnel(t, func(r *rig) {
			from, to := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
			from.close(4000, "leaving")
			for i := range 100 {
				to.send(event("critical", i, 1000))
			}
			<-r.ended
			if n := r.metric("weir_ws_closes_total", closeLabel(4000), sender(hostabi.Direction(way)).String()); n != 1 {
				t.Error(r.log)
			}
			if n := r.metric("weir_faults_total", "slow_consumer"); n != 0 {
				t.Errorf("%v faults counted as slow_consumer", n)
			}
		}, kernel(500), buffered(5000), with(func(l *config.Limits) { l.SlowConsumerGrace = time.Second }))
	}
}

// lender notes whether who waits for bytes holds memory for them.
type lender struct {
	*wire
	held atomic.Int64
}

func (l *lender) ReadTo(b sock.Buffer) (int, error) { return l.wire.ReadTo(&noted{b, l}) }

type noted struct {
	sock.Buffer
	l *lender
}

func (n *noted) Space() []byte {
	p := n.Buffer.Space()
	n.l.held.Store(int64(len(p)))
	return p
}

func (n *noted) Idle() {
	n.Buffer.Idle()
	if d, ok := n.Buffer.(*discard); ok && d.buf == nil {
		n.l.held.Store(0)
	}
}

// A peer that takes long for the rest of an ended tunnel costs no buffer meanwhile.
func TestWaitingForAPeersEndHoldsNoBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lender{wire: &wire{in: newStream(0), out: newStream(0)}}
		r := newRig(t, &setup{settings: Settings{View: (*policy.Policy)(nil).View("r"), Limits: limits()}})
		r.Tunnel.legs[hostabi.ToUpstream].tr = l
		go r.Tunnel.finishLeg(hostabi.ToUpstream)
		for _, what := range []string{"", "more"} {
			_, _ = l.in.put([]byte(what))
			synctest.Wait()
			if n := l.held.Load(); n > 0 {
				t.Errorf("%d bytes are held", n)
			}
		}
		l.in.change(func() { l.in.eof = true })
	})
}
