package relay

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/proxy/config"
	"weir/proxy/metrics"
)

// badLog panics when it is to write a certain line.
type badLog struct {
	slog.Handler
	line string
}

func (l badLog) Handle(ctx context.Context, r slog.Record) error {
	if l.line != "" && r.Message == l.line {
		panic("made to")
	}
	return l.Handler.Handle(ctx, r)
}

// told holds that panics were logged, each with its stack, and counted: one in
// where, and perhaps more behind it.
func (r *rig) told(where string) {
	r.t.Helper()
	log := r.log.String()
	lines := strings.Count(log, "msg=panic in=tunnel tunnel=t1 route=r")
	if counted := r.metric("weir_panics_total", "tunnel"); lines == 0 || int(counted) != lines || strings.Count(log, "stack=") != lines {
		r.t.Errorf("%d panics are logged, %d stacks, and %v counted", lines, strings.Count(log, "stack="), counted)
	}
	if !strings.Contains(log, where) {
		r.t.Errorf("no stack shows %s: %s", where, log)
	}
}

// A panic ends its own tunnel: both peers are told, as far as they can be.
func TestPanic(t *testing.T) {
	for _, c := range []struct {
		in   string
		way  int
		kill func(r *rig)
	}{
		{"ReadTo", 0, func(r *rig) { r.c.send("x") }},
		{"TryWrite", 1, func(r *rig) { r.c.send("x", "y") }},
		{"Drain", 1, func(r *rig) { r.c.send(strings.Repeat("x", 5000)) }},
	} {
		t.Run(c.in, func(t *testing.T) {
			inTunnel(t, func(r *rig) {
				r.hurts = true
				r.c.send("warm up")
				r.u.expect("warm up")
				synctest.Wait() // a pump in a goroutine reads again
				[]*peer{r.c, r.u}[c.way].w.panicOn.Store(c.in)
				c.kill(r)
				synctest.Wait()
				r.c.closed(1011, "internal error")
				if c.way == 0 {
					if r.pumps[0].loop.tr == nil { // its read was waiting already
						r.u.expect("x")
					}
					r.u.closed(1011, "internal error")
				}
				r.u.w.panicOn.Store("")
				<-r.ended
				r.told("(*wire).hurt")
			}, kernel(1000))
		})
	}
}

// A panic in any goroutine that works for a tunnel, timers included, is logged
// with its stack and counted, and ends that tunnel: every pump and writer is
// joined, and what it held is given back (leavesNothing).
func TestAPanicAnywhereEndsTheTunnelAndLeavesNothing(t *testing.T) {
	over := Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "over"}
	ends := func(r *rig) {
		r.Close(over)
		r.c.end()
		r.u.end()
	}
	for _, c := range []struct {
		name  string
		setup option
		kill  func(r *rig)
		where string // in the stack
		loops bool   // has no meaning for pumps in goroutines
	}{
		{"a pump on a loop begins", func(s *setup) { s.hurt[0] = "OnReadable" }, func(*rig) {}, "(*pump).listen", true},
		{"a pump leaves its loop", nil, func(r *rig) {
			r.c.w.panicOn.Store("Pause")
			r.c.send(strings.Repeat("x", 200<<10))
		}, "(*pump).leaveLoop", true},
		{"a pump returns to its loop", nil, func(r *rig) {
			r.c.send(strings.Repeat("x", 200<<10))
			synctest.Wait()
			r.c.w.panicOn.Store("Resume")
			r.u.read(300 << 10)
		}, "(*pump).ready", true},
		{"a pump is interrupted", nil, func(r *rig) {
			r.c.w.panicOn.Store("StopReading")
			r.Close(over)
		}, "(*pump).interrupt", true},
		{"whoever ends the tunnel", nil, func(r *rig) {
			r.u.w.panicOn.Store("SetReadDeadline")
			ends(r)
		}, "(*Tunnel).end", false},
		{"the finisher of a leg", nil, func(r *rig) {
			r.u.w.panicOn.Store("CloseWrite")
			r.Close(over)
		}, "(*Tunnel).finishLeg", false},
		{"a leg is closed", nil, func(r *rig) {
			r.u.w.panicOn.Store("Close")
			ends(r)
		}, "(*wire).Close", false},
		{"a leg is reset", nil, func(r *rig) {
			r.u.w.panicOn.Store("Abort")
			r.u.lose()
		}, "(*wire).Abort", false},
		{"the timer of pings", with(func(l *config.Limits) { l.PingInterval = time.Second }), func(r *rig) {
			r.c.w.panicOn.Store("TryWrite")
		}, "(*Tunnel).look", false},
		{"the timer of the second close frame", nil, func(r *rig) {
			r.c.close(1000, "")
			synctest.Wait()
			r.mu.Lock()
			r.first = nil
			r.mu.Unlock()
		}, "(*Tunnel).awaitAnswer", false},
		{"the timer of a slow consumer", nil, func(r *rig) {
			r.c.send(strings.Repeat("x", 200<<10))
			synctest.Wait()
			r.route.Store(&Settings{Limits: limits()}) // no view: whoever looks for one panics
		}, "(*sink).graceOver", false},
		{"the end is logged", func(s *setup) { s.badLog = "closed" }, ends, "(*Tunnel).logClosed", false},
		{"the end is told", func(s *setup) { s.badEnd = true }, ends, "(*Tunnel).finish", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			options := []option{kernel(1000)}
			if c.setup != nil {
				options = append(options, c.setup)
			}
			inTunnel(t, func(r *rig) {
				if c.loops && r.pumps[0].loop.tr == nil {
					return
				}
				r.hurts = true
				c.kill(r)
				<-r.ended
				synctest.Wait()
				r.told(c.where)
			}, options...)
		})
	}
}
