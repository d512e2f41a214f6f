package relay

import (
	"sync/atomic"
	"testing"
	"time"

	"weir/hostabi"
	"weir/proxy/policy/policytest"
)

// An envelope that the policy could not give at load is asked for again, and nobody
// waits for it who ends a tunnel: some hold the lock of a sink, some run on a loop.
func TestNobodyWaitsForAnEnvelope(t *testing.T) {
	var sink atomic.Pointer[sink]
	var asked atomic.Int64
	failing := func(f *policytest.Funcs) {
		f.Error = func(in *hostabi.ErrorInput) (hostabi.ErrorOutput, bool) {
			s := sink.Load()
			switch {
			case in.Route != "r" || in.Code != hostabi.UpstreamClosed:
				return hostabi.ErrorOutput{}, false
			case s == nil:
				return hostabi.ErrorOutput{Template: "{{"}, true
			}
			asked.Add(1)
			time.Sleep(time.Second)
			if !s.mu.TryLock() {
				t.Error("asked under the lock of a sink")
				return hostabi.ErrorOutput{}, false
			}
			s.mu.Unlock()
			return hostabi.ErrorOutput{}, false
		}
	}
	inTunnel(t, func(r *rig) {
		sink.Store(&r.legs[hostabi.ToClient].sink)
		defer sink.Store(nil)
		sleep(2000)
		r.u.w.out.change(func() { r.u.w.out.reset = true })
		began := time.Now()
		r.c.send("nowhere to go")
		r.c.envelope()
		r.c.closed(1012, "upstream_closed")
		if d := time.Since(began); d > lossTimeout {
			t.Errorf("the client is told after %v", d)
		}
		sleep(5000)
		if asked.Swap(0) == 0 {
			t.Error("it is not asked for again")
		}
	}, func(s *setup) {
		s.before = func(r *rig) { // by the clock of the bubble
			r.route.Store(&Settings{View: events(r.t, failing).View("r"), Limits: limits()})
		}
	})
}
