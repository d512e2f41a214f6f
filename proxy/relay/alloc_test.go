//go:build !race

// Under the race detector pools lose what they hold, at random.

package relay

import (
	"bytes"
	"io"
	"net"
	"testing"

	"weir/proxy/metrics"
	"weir/proxy/wsframe"
)

// On real sockets a message costs no allocation, its text looked at or not.
func TestRelayingAllocatesNothing(t *testing.T) {
	for _, validate := range []bool{false, true} {
		set := realSettings(t)
		set.Limits.ValidateUTF8 = validate
		relayWithoutAllocating(t, set)
	}
}

func relayWithoutAllocating(t *testing.T, set *Settings) {
	t.Helper()
	tun, c, u, ended := realTunnel(t, set)
	wire := wsframe.AppendFrame(nil, wsframe.Text, nil, []byte(event("presence", 1, 128)))
	masked := wsframe.AppendFrame(nil, wsframe.Text, &[4]byte{1, 2, 3, 4}, []byte(event("m", 1, 128)))
	in := make([]byte, 1000)
	round := func() {
		for _, way := range []struct {
			from, to *net.TCPConn
			wire     []byte
		}{{u, c, wire}, {c, u, masked}} {
			if _, err := way.from.Write(way.wire); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(way.to, in[:len(way.wire)]); err != nil || !bytes.Equal(in[:len(way.wire)], way.wire) {
				t.Fatal(err)
			}
		}
	}
	round()
	if n := testing.AllocsPerRun(200, round); n >= 1 {
		t.Errorf("%v allocations for a message each way", n)
	}
	tun.Close(Cause{Initiator: metrics.ByWeir, Code: 1001})
	_ = c.Close()
	_ = u.Close()
	<-ended
}
