package relay

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/policy"
	"weir/proxy/sock"
	"weir/proxy/wsframe"
)

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

// What the kernel takes before it says that the peer is gone is sent: who is told of the
// rest would send it again.
func TestWhatWasTakenBeforeAnErrorIsSent(t *testing.T) {
	for _, queued := range []bool{false, true} {
		inTunnel(t, func(r *rig) {
			if queued {
				fill(r.c, 500-8)
			}
			cut := func() { r.u.w.out.cut = true }
			if !queued {
				r.u.w.out.change(cut)
			}
			var wire []byte
			for i := range 3 {
				wire = append(wire, r.c.frame(true, wsframe.Text, event("critical", i, 200))...)
			}
			r.c.raw(wire)
			synctest.Wait()
			before := int64(0)
			if queued {
				before = 1
				r.u.w.out.change(func() { cut(); r.u.w.out.room *= 2 })
				sleep(10)
			}
			if f := r.carried(hostabi.ToUpstream); f.Messages != before+2 {
				t.Errorf("%d messages are sent, want %d", f.Messages, before+2)
			}
			if e := r.c.envelope(); e.Message != "1 messages were waiting for the upstream when its connection ended" {
				t.Errorf("%+v", e)
			}
		}, kernel(500), buffered(10_000))
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

// So does one that reads slowly, for which much of that waits in the kernel still.
func TestLastWordsToASlowPeer(t *testing.T) {
	for way := range 4 {
		inTunnel(t, func(r *rig) {
			from, to := []*peer{r.c, r.u}[way%2], []*peer{r.u, r.c}[way%2]
			var sent []string
			for i := range 100 {
				sent = append(sent, event("critical", i, 1000))
			}
			sent = append(sent, event("critical", 100, large), "behind it")
			from.send(sent...)
			from.close(4002, "done")
			from.end()
			from.w.out.change(func() { from.w.out.reset = true }) // writes fail from here on
			to.send("into the void")
			for _, s := range sent {
				sleep(300)
				to.expect(s)
			}
			to.closed(4002, "done")
		}, kernel(2000), buffered([]int64{5000, large + large/2}[way/2]))
	}
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

// A peer that does one after the other reads the next message when its answer to the last
// one is taken: what had been sent to it before the tunnel ended arrives all the same.
func TestWhoAnswersEachMessageGetsTheRest(t *testing.T) {
	for name, end := range map[string]func(r *rig, from *peer){
		"ended":  func(_ *rig, from *peer) { from.end() },
		"reset":  func(_ *rig, from *peer) { from.w.in.change(func() { from.w.in.reset = true }) },
		"broken": func(_ *rig, from *peer) { from.raw([]byte("\xff\xff")) },
		"closed": func(_ *rig, from *peer) { from.close(4001, "") },
	} {
		for _, by := range []string{"client", "upstream"} {
			t.Run(name+" by the "+by, func(t *testing.T) {
				inTunnel(t, func(r *rig) {
					from, to := r.c, r.u
					if by == "upstream" {
						from, to = to, from
					}
					to.w.in.change(func() { to.w.in.room = 2000 })
					var sent []string
					for i := range 100 {
						sent = append(sent, event("critical", i, 100))
					}
					from.send(sent...)
					end(r, from)
					for i, s := range sent {
						to.expect(s)
						answer := to.frame(true, wsframe.Text, event("critical", i, 1000))
						for len(answer) > 0 {
							n, err := to.w.in.put(answer)
							if err != nil {
								t.Fatalf("answer %d: %v", i, err)
							}
							if answer = answer[n:]; n == 0 {
								sleep(100)
							}
						}
					}
					g, err := to.next()
					if strings.Contains(g.payload, "were waiting for the upstream") {
						g, err = to.next()
					}
					if err != nil || g.op != wsframe.Close {
						t.Errorf("%v, %v", g, err)
					}
				}, kernel(1000))
			})
		}
	}
}

// restless is a peer that says something again before it is asked.
type restless struct {
	Transport
	reads atomic.Int64
	over  atomic.Bool
}

func (r *restless) ReadTo(b sock.Buffer) (int, error) {
	r.reads.Add(1)
	if r.over.Load() {
		return 0, io.EOF
	}
	return len(b.Space()), nil
}

// Who goes on sending when its tunnel has ended is heard out beside others, not before
// them: a read that finds something does not wait, and a goroutine would have its
// processor for 10 ms.
func TestOthersHaveTheirTurnWhileAPeerIsHeardOut(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	peer, silent := &restless{}, make(chan struct{})
	go new(Tunnel).hearOut(&leg{tr: peer}, silent)
	const turns = 100
	for range turns {
		runtime.Gosched()
	}
	reads := peer.reads.Load()
	peer.over.Store(true)
	<-silent
	if reads > 10*turns {
		t.Errorf("%d reads in %d turns of another goroutine", reads, turns)
	}
}
