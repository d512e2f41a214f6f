package relay

import (
	"testing"
	"testing/synctest"
	"time"

	"weir/proxy/metrics"
)

// A tunnel is finished when everybody has been told that it ends, not while: each
// leg then has its moment to read the close frame, whoever ended the tunnel was
// slow or not.
func TestATunnelIsFinishedBehindItsEnd(t *testing.T) {
	inTunnel(t, func(r *rig) {
		for _, p := range []*peer{r.c, r.u} {
			p.w.slow.Store(int64(lingerTimeout / 4))
		}
		go r.Close(Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "over"})
		r.c.closed(1001, "over")
		r.u.closed(1001, "over")
		time.Sleep(lingerTimeout / 2) // in the bubble's time
		for _, p := range []*peer{r.c, r.u} {
			p.w.in.change(func() {
				if p.w.closed {
					t.Errorf("the leg of the %s was closed right behind its close frame", p.name)
				}
			})
		}
	})
}

// Who knows of a tunnel may end it before it runs: as a drain does that begins in
// the moment of its handshake.
func TestATunnelEndedBeforeItRuns(t *testing.T) {
	inTunnel(t, func(r *rig) {
		r.c.closed(1001, "over")
		r.u.closed(1001, "over")
	}, func(s *setup) {
		s.before = func(r *rig) {
			r.Close(Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "over"})
			synctest.Wait()
		}
	})
}
