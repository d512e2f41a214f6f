package sock

import (
	"sync"
	"testing"

	"weir/proxy/poll"
)

// A paused reader is not called, though its peer is gone and a writer, who waits
// meanwhile, is told: who paused it may hold what the call would wait for.
func TestAPausedLegIsNotCalled(t *testing.T) {
	x, peer := tcpPair(t)
	l := onLoop(t, newLoops(t, 1), Wrap(x))
	calls := 0 // of the loop
	if err := l.OnReadable(func(func()) poll.Turn { calls++; return poll.Short }); err != nil {
		t.Fatal(err)
	}
	l.Pause()
	var leaving sync.WaitGroup
	defer leaving.Wait()
	reset := func() { _ = peer.SetLinger(0); _ = peer.Close() }
	p := make([]byte, 64<<20) // more than the kernel holds
	full := false
	err := l.Drain(func() bool {
		n, err := l.TryWrite(p)
		if p = p[n:]; err == nil && !full {
			full = true
			leaving.Go(reset)
		}
		return err != nil
	})
	if err != nil || !full {
		t.Fatalf("Drain: %v, full %v", err, full)
	}
	over := make(chan int)
	l.src.Call(func(func()) { over <- calls }) // behind the call of the writer
	if n := <-over; n != 0 {
		t.Errorf("a paused reader was called %d times", n)
	}
}
