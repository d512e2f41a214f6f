package upstream

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"weir/proxy/config"
	"weir/proxy/fd"
	"weir/proxy/nettest"
	"weir/proxy/poll"
)

// What is said unasked would be taken for the next answer, and that one for the
// answer to whoever asks then.
func TestWhatNobodyAskedForEndsAConnectionThatWasJustUsed(t *testing.T) {
	on := map[string]Options{"no loop": {}}
	if loops, err := poll.New(1, nil); err == nil {
		t.Cleanup(loops.Close)
		on["a loop"] = Options{Loops: loops}
	} else if !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
	for name, o := range on {
		t.Run(name, func(t *testing.T) {
			kept, said := make(chan struct{}), make(chan struct{})
			u, err := New(&config.Upstream{Name: "test", URLs: []string{backend(t, func(p *peer) {
				p.head()
				p.answer("ok")
				nettest.Within(t, kept, "the end of the last exchange")
				p.answer("unasked")
				close(said)
				_ = p.ended()
			})}}, o)
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			expectFetch(t, u, request("/", nil), "ok")
			close(kept)
			nettest.Within(t, said, "the answer nobody asked for")
			s := &u.targets[0].shelves[0]
			c := s.idle[0]
			q, ok := c.raw.(fd.Quiet)
			for end := time.Now().Add(patience); ok && q.Dry(); runtime.Gosched() {
				if time.Now().After(end) {
					t.Fatal("its loop is not told")
				}
			}
			if c := s.take(c.idleSince, true); c != nil {
				_ = c.nc.Close()
				t.Error("it is used again")
			}
		})
	}
}
