package relay

import (
	"testing"
	"testing/synctest"

	"weir/proxy/metrics"
)

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
