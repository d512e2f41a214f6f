package relay

import (
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"weir/hostabi"
)

// The kernel may have no room to tell of a leg again that was not read for a while: its
// peer is told, and does not wait until idle_timeout for who hears nothing.
func TestALegThatCannotBeReadOnEndsItsTunnel(t *testing.T) {
	inTunnel(t, func(r *rig) {
		l, ok := r.legs[hostabi.ToUpstream].tr.(*loopWire)
		if !ok {
			return // a goroutine asks for nothing
		}
		message := strings.Repeat("x", 5000)
		r.c.send(message)
		synctest.Wait()
		l.set(func() { l.unarmed = syscall.ENOSPC })
		r.u.expect(message)
		r.u.closed(1001, "client connection lost")
		<-r.ended
	}, kernel(1000), buffered(2000))
}
