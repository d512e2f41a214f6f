package sock

import (
	"testing"

	"weir/proxy/nettest"
)

// What a peer has taken is known, and whether more waits for it, on a loop and not.
func TestAcked(t *testing.T) {
	for _, loop := range []bool{false, true} {
		x, peer := nettest.Pair(t)
		c := Wrap(x)
		var conn interface {
			Acked() (n uint64, unsent bool)
			TryWrite(p []byte) (int, error)
		} = c
		if loop {
			conn = onLoop(t, newLoops(t, 1), c)
		}
		until := func(f func(n uint64, unsent bool) bool) { // the test's deadline bounds it
			for !f(conn.Acked()) {
			}
		}
		before, _ := conn.Acked()
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
		until(func(n uint64, _ bool) bool { return n >= before+1000 })
		if _, unsent := conn.Acked(); unsent {
			t.Error("what the peer has is said to wait for it")
		}
		for { // until the peer's kernel takes no more
			if n, err := conn.TryWrite(make([]byte, 64<<10)); err != nil {
				t.Fatal(err)
			} else if n < 64<<10 {
				break
			}
		}
		until(func(_ uint64, unsent bool) bool { return unsent })
	}
}

// What has come is known, also when whoever sent it was lost since.
func TestUnread(t *testing.T) {
	for _, loop := range []bool{false, true} {
		x, peer := nettest.Pair(t)
		c := Wrap(x)
		var conn interface {
			Unread() int
			TryWrite(p []byte) (int, error)
		} = c
		if loop {
			conn = onLoop(t, newLoops(t, 1), c)
		}
		if n := conn.Unread(); n != 0 {
			t.Errorf("%d bytes before any", n)
		}
		if _, err := peer.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		for conn.Unread() < 1000 { // the test's deadline bounds it
		}
		_ = peer.SetLinger(0)
		_ = peer.Close()
		for err := error(nil); err == nil; {
			_, err = conn.TryWrite(make([]byte, 1))
		}
		if n := conn.Unread(); n != 1000 {
			t.Errorf("%d bytes behind a reset", n)
		}
	}
}
