package relay

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/proxy/config"
	"weir/proxy/metrics"
	"weir/proxy/wsframe"
)

func pingEvery(d time.Duration) option {
	return with(func(l *config.Limits) { l.PingInterval = d })
}

// A peer that is quiet is pinged; one that answers lives on, and nobody else
// hears of it.
func TestQuietPeersArePinged(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for range 3 {
			sleep(10_001)
			for _, p := range []*peer{r.c, r.u} {
				g, err := p.next()
				if err != nil || g.op != wsframe.Ping || g.payload == "" {
					t.Fatalf("%s received %v, %v; want a ping", p.name, g, err)
				}
				p.pong(g.payload)
			}
			r.c.silent()
			r.u.silent()
		}
	}, pingEvery(10*time.Second))
}

// A pong to Weir's own ping is swallowed even when other frames came first;
// others pass.
func TestPongs(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.c.pong("unasked")
		r.u.expectFrame(got{wsframe.Pong, true, "unasked"})
		sleep(10_001)
		g, _ := r.c.next()
		r.u.next()
		r.c.send("first this")
		sleep(100)
		r.c.pong(g.payload)
		r.c.pong("not " + g.payload)
		r.u.expect("first this")
		r.u.expectFrame(got{wsframe.Pong, true, "not " + g.payload})
		r.u.silent()
	}, pingEvery(10*time.Second))
}

// Control frames are no messages: they keep no tunnel that is idle.
func TestPingsOfPeersAreNoMessages(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for range 9 {
			sleep(1000)
			r.c.ping("x")
			r.u.expectFrame(got{wsframe.Ping, true, "x"})
		}
		sleep(1000)
		synctest.Wait()
		if !r.Info().Closing {
			t.Error("they count as messages")
		}
		r.c.closed(1001, "idle_timeout")
	}, with(func(l *config.Limits) { l.IdleTimeout = 10 * time.Second }))
}

// A peer that does not answer a ping is half-open.
func TestHalfOpen(t *testing.T) {
	for way, code := range []uint16{1001, 1014} {
		inTunnel(t, func(r *rig) {
			gone, other := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
			go func() { // the other one answers every ping
				for {
					g, err := other.next()
					if err != nil || g.op == wsframe.Close {
						return
					}
					other.pong(g.payload)
				}
			}()
			sleep(19_900)
			if g, err := gone.next(); err != nil || g.op != wsframe.Ping {
				t.Fatalf("%s received %v, %v", gone.name, g, err)
			}
			gone.silent()
			sleep(200)
			gone.closed(code, "no answer to a ping")
			<-r.ended
		}, pingEvery(10*time.Second))
	}
}

// Weir was stopped, and goes on: what its peers sent meanwhile is not read yet, and their
// silence proves nothing. Who has said nothing is found a moment later.
func TestALateLookJudgesNobody(t *testing.T) {
	stopped := func(r *rig) { // for 30 s: its timer does not fire, then it is the first to run
		r.watch.Stop()
		sleep(30_000)
		r.look()
		synctest.Wait()
		if r.Info().Closing {
			t.Fatal("closed before what peers sent could be read")
		}
	}
	inTunnel(t, func(r *rig) {
		stopped(r)
		r.c.send("still here")
		r.u.expect("still here")
		sleep(9000)
		if r.Info().Closing {
			t.Error("closed though there was a message")
		}
	}, with(func(l *config.Limits) { l.IdleTimeout = 10 * time.Second }))
	inTunnel(t, func(r *rig) {
		stopped(r)
		sleep(1100)
		r.c.closed(1001, "idle_timeout")
	}, with(func(l *config.Limits) { l.IdleTimeout = 10 * time.Second }))
	inTunnel(t, func(r *rig) {
		sleep(10_001) // both have a ping to answer
		stopped(r)
		for _, p := range []*peer{r.c, r.u} {
			g, err := p.next()
			if err != nil || g.op != wsframe.Ping {
				t.Fatalf("%s received %v, %v; want a ping", p.name, g, err)
			}
			p.pong(g.payload)
		}
		sleep(5000)
		if r.Info().Closing {
			t.Error("closed though both have answered")
		}
	}, pingEvery(10*time.Second))
}

// Nor does the end of a wait for an answer to a close frame that comes as late: what the
// upstream said before its answer may be there unread.
func TestALateWaitForAnAnswerEndsNothing(t *testing.T) {
	stopped := func(r *rig) { // for 30 s
		r.c.close(4001, "done")
		synctest.Wait()
		r.mu.Lock()
		r.grace.Reset(30 * time.Second)
		r.mu.Unlock()
		sleep(30_000)
		if r.Tunnel.ended() {
			r.t.Fatal("ended before what the upstream sent could be read")
		}
	}
	inTunnel(t, func(r *rig) {
		stopped(r)
		r.u.send("last words")
		r.u.close(4001, "done")
		r.c.expect("last words")
		r.c.closed(4001, "done")
	})
	inTunnel(t, func(r *rig) {
		stopped(r)
		sleep(1100)
		if !r.Tunnel.ended() {
			r.t.Error("it waits on for an upstream that does not answer")
		}
	})
}

// Pings of the peers are theirs: they pass, and keep the tunnel's legs alive.
func TestPingsOfPeersPass(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for range 10 {
			sleep(6000)
			r.c.ping("mine")
			r.u.expectFrame(got{wsframe.Ping, true, "mine"})
			r.u.pong("mine")
			r.c.expectFrame(got{wsframe.Pong, true, "mine"})
		}
		r.c.silent()
		r.u.silent()
	}, pingEvery(10*time.Second))
}

// While a leg is not read because the other one is slow, its silence proves
// nothing.
func TestPausedLegIsNotJudged(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for i := range 60 {
			r.u.send(event("critical", i, 1000))
		}
		synctest.Wait()
		all := []byte{}
		for range 60 { // a minute and more, a little at a time
			sleep(2000)
			all = append(all, r.c.read(200)...)
			if strings.Contains(string(all), "\x88") {
				t.Fatal("closed")
			}
			r.c.ping("alive")
		}
	}, kernel(500), buffered(5000), pingEvery(10*time.Second))
}

// No ping stands inside a message, and none that was not sent is waited for.
func TestNoPingInsideAMessage(t *testing.T) {
	inTunnel(t, func(r *rig) {
		wire := r.u.frame(true, wsframe.Binary, strings.Repeat("x", 100_000))
		for sent := 90_000; sent < 90_010; sent++ {
			if sent == 90_000 {
				r.u.raw(wire[:sent])
			}
			r.u.raw(wire[sent : sent+1])
			sleep(9_000)
		}
		r.u.raw(wire[90_010:])
		r.c.expectBytes(wire)
	}, pingEvery(10*time.Second))
}

func TestIdleTimeout(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for range 5 {
			sleep(50_000)
			r.c.send("busy")
			r.u.expect("busy")
		}
		for range 5 {
			sleep(10_000)
			r.u.ping("this is no message")
			r.c.expectFrame(got{wsframe.Ping, true, "this is no message"})
		}
		sleep(9_000)
		r.c.silent()
		sleep(2_000)
		r.c.closed(1001, "idle_timeout")
		r.u.closed(1001, "idle_timeout")
	}, with(func(l *config.Limits) { l.IdleTimeout = time.Minute }))
}

// Once a close handshake has begun nobody is pinged or judged any more, not even
// for a ping that is out: it has closeTimeout, and then the end has the cause that
// came first. Whoever was told does not answer here; the other one is told last.
func TestAClosingTunnelIsNotWatched(t *testing.T) {
	for _, c := range []struct {
		fact   string
		told   int // 0 the client, 1 the upstream
		begin  func(r *rig)
		code   uint16
		reason string
		log    string
	}{
		{"the client closes", 1, func(r *rig) { r.c.close(1000, "done") }, 1000, "done", `initiator=client fault=""`},
		{"the upstream closes", 0, func(r *rig) { r.u.close(4002, "bye") }, 4002, "bye", `initiator=upstream fault=""`},
		{"a drain", 1, func(r *rig) { r.Drain(0) }, 1012, "draining: retry_after_ms=0", "initiator=weir fault=draining"},
		{"the operator closes", 1, func(r *rig) {
			r.Close(Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "closed by the operator"})
		}, 1001, "closed by the operator", `initiator=weir fault=""`},
	} {
		for name, o := range map[string]option{
			"pings":    pingEvery(time.Second),
			"idleness": with(func(l *config.Limits) { l.IdleTimeout = 2 * time.Second }),
		} {
			t.Run(c.fact+", "+name, func(t *testing.T) {
				inTunnel(t, func(r *rig) {
					sleep(1500)
					for _, p := range []*peer{r.c, r.u} {
						p.read(p.w.out.unread()) // a ping, which stays without an answer
					}
					c.begin(r)
					told, last := []*peer{r.c, r.u}[c.told], []*peer{r.u, r.c}[c.told]
					told.expectFrame(got{wsframe.Close, true, closePayload(c.code, c.reason)})
					sleep(4900)
					told.silent()
					last.silent()
					sleep(200)
					last.closed(c.code, c.reason)
					<-r.ended
					if !strings.Contains(r.log.String(), fmt.Sprintf("code=%d", c.code)) || !strings.Contains(r.log.String(), c.log) {
						t.Error(r.log)
					}
					if n := r.metric("weir_faults_total", "upstream_timeout"); n != 0 {
						t.Errorf("%v timeouts of the upstream counted", n)
					}
				}, o)
			})
		}
	}
}

// A part of a large message is activity, and so is what a slow peer takes.
func TestNotIdle(t *testing.T) {
	inTunnel(t, func(r *rig) {
		wire := r.u.frame(true, wsframe.Binary, strings.Repeat("x", 600_000))
		for i := range 6 {
			r.u.raw(wire[i*100_000 : (i+1)*100_000])
			sleep(40_000)
			r.c.read(100_000)
		}
		r.u.raw(wire[600_000:])
		r.c.read(len(wire) - 600_000)
		r.c.silent()
	}, with(func(l *config.Limits) { l.IdleTimeout = time.Minute }))
}

// A tunnel that looked for the last time by other limits looks by those that hold now
// within half a minute.
func TestLimitsOfTimeThatChange(t *testing.T) {
	const soon = 30 * time.Second
	f := func(change func(*config.Limits), min, max time.Duration) {
		inTunnel(t, func(r *rig) {
			set := *r.route.Load()
			change(&set.Limits)
			r.route.Store(&set)
			began := time.Now()
			for _, p := range []*peer{r.c, r.u} {
				for { // pings are not answered
					if g, err := p.next(); err != nil || g.op != wsframe.Ping {
						break
					}
				}
				p.lose()
			}
			if d := time.Since(began); d < min || d > max {
				t.Errorf("ended after %v", d)
			}
		})
	}
	f(func(l *config.Limits) { l.IdleTimeout = 10 * time.Minute }, 10*time.Minute, 10*time.Minute+soon)
	f(func(l *config.Limits) { l.IdleTimeout = time.Second }, time.Second, soon)
	f(func(l *config.Limits) { l.PingInterval = time.Minute }, 2*time.Minute, 2*time.Minute+soon)
}
