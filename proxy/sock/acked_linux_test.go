package sock

import "testing"

// What a peer has taken is known, and whether more waits for it, on a loop and not.
func TestAcked(t *testing.T) {
	for _, loop := range []bool{false, true} {
		x, peer := tcpPair(t)
		c := Wrap(x)
		var conn interface {
			Acked() uint64
			Unsent() bool
			TryWrite(p []byte) (int, error)
		} = c
		if loop {
			conn = onLoop(t, newLoops(t, 1), c)
		}
		before := conn.Acked()
		if n, err := conn.TryWrite(make([]byte, 1000)); n != 1000 || err != nil {
			t.Fatal(n, err)
		}
		for n := 0; n < 1000; {
			k, err := peer.Read(make([]byte, 1000))
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
		for conn.Acked() < before+1000 { // the test's deadline bounds it
		}
		if conn.Unsent() {
			t.Error("what the peer has is said to wait for it")
		}
		for { // until the peer's kernel takes no more
			if n, err := conn.TryWrite(make([]byte, 64<<10)); err != nil {
				t.Fatal(err)
			} else if n < 64<<10 {
				break
			}
		}
		for !conn.Unsent() {
		}
	}
}
