package relay

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/proxy/config"
	"weir/proxy/wsframe"
)

// A peer that takes nothing for slow_consumer_grace is given up: what waits is
// dropped, the other leg is closed in order.
func TestSlowConsumer(t *testing.T) {
	for way := range 2 {
		inTunnel(t, func(r *rig) {
			from, to := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
			full := fill(from, 400)
			for i := range 100 {
				from.send(event("critical", i, 1000))
			}
			sleep(4900)
			from.silent()
			sleep(200)
			from.closed(1013, "slow_consumer")
			// The frame that had begun is finished, then comes the close frame.
			to.expect(full, event("critical", 0, 1000))
			to.closed(1013, "slow_consumer")
			<-r.ended
			if n := r.metric("weir_messages_dropped_total", "closed"); n == 0 {
				t.Error("dropped messages are not counted")
			}
		}, kernel(500), buffered(5000))
	}
}

// One that never reads again is reset, five seconds later.
func TestDeadConsumer(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for i := range 100 {
			r.u.send(event("critical", i, 1000))
		}
		sleep(5100)
		r.u.closed(1013, "slow_consumer")
		sleep(4800)
		synctest.Wait()
		select {
		case <-r.ended:
			t.Error("given up too soon")
		default:
		}
		sleep(200)
		<-r.ended
		if !r.c.w.out.reset {
			t.Error("the connection is not reset")
		}
	}, kernel(500), buffered(5000))
}

// A reload reaches a peer that has stalled already, within half a minute: whoever reads
// its settings with each message reads none now.
func TestGraceChangesWhileAPeerIsStalled(t *testing.T) {
	const day = 24 * time.Hour
	for _, f := range []struct{ before, after, least, most time.Duration }{
		{12 * time.Hour, 5 * time.Second, 5 * time.Second, 31 * time.Second},
		{5 * time.Second, time.Minute, time.Minute, 61 * time.Second},
	} {
		inTunnel(t, func(r *rig) {
			for i := range 100 {
				r.u.send(event("critical", i, 1000))
			}
			sleep(1000)
			began := time.Now()
			set := *r.route.Load()
			set.Limits.SlowConsumerGrace = f.after
			r.route.Store(&set)
			for !r.Tunnel.ended() && time.Since(began) < f.most {
				sleep(100)
			}
			if d := time.Since(began) + time.Second; !r.Tunnel.ended() || d < f.least || r.cause.Code != 1013 {
				t.Errorf("from %v to %v: %v later ended is %v, for %v", f.before, f.after, d, r.Tunnel.ended(), r.cause.Error())
			}
		}, kernel(500), buffered(5000), with(func(l *config.Limits) { l.SlowConsumerGrace, l.IdleTimeout = f.before, day }))
	}
}

// A peer that reads slowly is not closed, however long it takes.
func TestSlowButMoving(t *testing.T) {
	inTunnel(t, func(r *rig) {
		go func() {
			for i := range 50 {
				r.u.send(event("critical", i, 1000))
			}
		}()
		var all []byte
		for len(all) < 50*1004 {
			sleep(4000)
			all = append(all, r.c.read(min(450, 50*1004-len(all)))...)
		}
		for i := range 50 {
			if !strings.Contains(string(all), event("critical", i, 1000)) {
				t.Errorf("message %d is lost", i)
			}
		}
		r.u.send("end")
		r.c.expect("end")
	}, kernel(500), buffered(5000), with(func(l *config.Limits) { l.IdleTimeout = time.Minute }))
}

// slowAndBusy has both peers send 50 messages, one of which reads slowly, for 20 s, and
// the other nothing. It returns the one that reads.
func slowAndBusy(r *rig, way int) (slow *peer) {
	r.t.Helper()
	slow, busy := []*peer{r.c, r.u}[way], []*peer{r.u, r.c}[way]
	for i := range 50 {
		busy.send(event("critical", i, 1000))
		slow.send(event("critical", i, 1000))
	}
	for range 10 {
		sleep(2000)
		if got := slow.read(450); len(got) < 450 {
			r.t.Fatalf("the end came behind %q", got)
		}
	}
	return slow
}

// A peer that does one after the other, and cannot write since its messages wait for a
// slow reader, does not read meanwhile. It is none of the dead, until that one is.
func TestWhoIsNotReadNeedNotRead(t *testing.T) {
	for way := range 2 {
		inTunnel(t, func(r *rig) {
			slowAndBusy(r, way)
			sleep(4000)
			if r.Tunnel.ended() {
				t.Error("ended while the other reads")
			}
			sleep(3000)
			if !r.Tunnel.ended() || r.cause.Code != 1013 {
				t.Errorf("nobody takes anything, and it has not ended: %+v", r.cause)
			}
		}, kernel(500), buffered(5000))
	}
}

// Who had reason not to read has slow_consumer_grace from when that was over, and not
// only as long as it is not read: between two waits it is for a moment.
func TestWhoWasNotReadHasItsTime(t *testing.T) {
	for way := range 2 {
		inTunnel(t, func(r *rig) {
			slow := slowAndBusy(r, way)
			slow.read(50*len(event("critical", 0, 1000)) - 4500)
			sleep(4000)
			if r.Tunnel.ended() {
				t.Errorf("ended though it had reason not to read until then: %+v", r.cause)
			}
			sleep(3000)
			if !r.Tunnel.ended() || r.cause.Code != 1013 {
				t.Errorf("takes nothing without a reason, and it has not ended: %+v", r.cause)
			}
		}, kernel(500), buffered(5000))
	}
}

// Nor is one that is closed, or pinged in vain, when the kernel wakes a writer only
// behind half of what it holds, which takes longer than slow_consumer_grace: neither
// while the tunnel is open, nor when it has ended and the rest is on its way.
func TestSlowButMovingInTheKernel(t *testing.T) {
	for _, ends := range []bool{false, true} {
		inTunnel(t, func(r *rig) {
			r.c.w.out.change(func() { r.c.w.out.lazy = true })
			const n = 80
			go func() {
				for i := range n {
					r.u.send(event("critical", i, 1000))
				}
				if ends {
					r.u.end()
				}
			}()
			var all []byte
			for len(all) < n*1004 {
				sleep(100)
				more := r.c.read(min(200, n*1004-len(all)))
				if len(more) == 0 {
					r.t.Fatalf("the end came behind %d bytes", len(all))
				}
				all = append(all, more...)
				if len(all) == 30_000 { // what is left waits in the kernel in the end, and nobody looks there
					set := *r.route.Load()
					set.Limits.PingInterval, set.Limits.IdleTimeout = config.Unlimited, time.Hour
					r.route.Store(&set)
				}
			}
			for i := range n {
				if !strings.Contains(string(all), event("critical", i, 1000)) {
					t.Errorf("message %d is lost", i)
				}
			}
			if ends {
				r.c.closed(1012, "upstream_closed")
				return
			}
			// Then it takes nothing more.
			for range 50 {
				r.u.send(event("critical", 0, 1000))
			}
			sleep(11_000)
			r.u.closed(1013, "slow_consumer")
		}, kernel(24_000), buffered(20_000), with(func(l *config.Limits) { l.PingInterval = 2 * time.Second; l.IdleTimeout = 4 * time.Second }))
	}
}

// What is left for a slow peer in the kernel only, with nothing in a queue any more, is
// not lost either: it is no half-open peer for not answering a ping that waits behind
// that, nor an idle one, and a tunnel that has ended is not closed before.
func TestWhatTheKernelHoldsIsTaken(t *testing.T) {
	for _, ends := range []bool{false, true} {
		inTunnel(t, func(r *rig) {
			const n = 40
			for i := range n {
				r.u.send(event("critical", i, 1000))
			}
			synctest.Wait()
			if ends {
				r.u.close(1000, "done")
			} else {
				go func() {
					for {
						g, err := r.u.next()
						if err != nil || g.op != wsframe.Ping {
							return
						}
						r.u.pong(g.payload)
					}
				}()
			}
			var all []byte
			for len(all) < n*1004 {
				sleep(1000)
				if ends { // a connection that is closed resets who sends, and what is on its way is lost
					r.c.send("meanwhile")
				}
				more := r.c.read(min(500, n*1004-len(all)))
				if len(more) == 0 {
					t.Fatalf("the end came behind %d bytes", len(all))
				}
				all = append(all, more...)
			}
			for i := range n {
				if !strings.Contains(string(all), event("critical", i, 1000)) {
					t.Errorf("message %d is lost", i)
				}
			}
			if ends {
				r.c.closed(1000, "done")
				return
			}
			if r.Info().Closing {
				t.Error("closed")
			}
		}, with(func(l *config.Limits) { l.PingInterval = 10 * time.Second; l.IdleTimeout = 15 * time.Second }))
	}
}

// Nor is that kept for long behind the end for who takes nothing of it, whether it has
// ended its own side or not.
func TestWhatNobodyTakesIsNotLeftToTheKernel(t *testing.T) {
	for _, ends := range []bool{false, true} {
		inTunnel(t, func(r *rig) {
			for i := range 40 {
				r.u.send(event("critical", i, 1000))
			}
			synctest.Wait()
			r.u.close(1000, "done")
			synctest.Wait()
			if ends {
				r.c.close(1000, "done")
				r.c.end()
			}
			sleep(20_000)
			r.c.w.out.change(func() {
				if !r.c.w.out.reset {
					t.Errorf("a client that had ended its side (%v) was not reset", ends)
				}
			})
			r.u.closed(1000, "done") // the other side is not
		})
	}
}

// slow_consumer_grace begins when the queue is full, whatever the peer did before.
func TestGraceBeginsWhenTheQueueIsFull(t *testing.T) {
	inTunnel(t, func(r *rig) {
		fill(r.u, 1000)
		sleep(20_000)
		for i := range 10 {
			r.u.send(event("critical", i, 1000))
		}
		sleep(9_900)
		synctest.Wait()
		if r.Info().Closing {
			t.Error("closed before")
		}
		sleep(3_000)
		if !r.Info().Closing {
			t.Error("not closed")
		}
	}, kernel(500), buffered(5000), with(func(l *config.Limits) { l.SlowConsumerGrace = 10 * time.Second }))
}
