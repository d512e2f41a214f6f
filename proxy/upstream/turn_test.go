package upstream

import (
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// restless is a client that has always sent more, n bytes at a time, and an upstream that
// takes all of it.
type restless struct {
	n     int
	reads atomic.Int64
	over  atomic.Bool
}

func (e *restless) Read(p []byte) (int, error) {
	e.reads.Add(1)
	if e.over.Load() {
		return 0, io.ErrUnexpectedEOF
	}
	return min(e.n, len(p)), nil
}

func (e *restless) Write(p []byte) (int, error) { return len(p), nil }

func (e *restless) Buffered() int {
	if e.over.Load() {
		return 0
	}
	return e.n
}

// A body whose client and upstream keep up is sent beside others, not before them:
// nothing of it waits, and a goroutine would have its processor for 10 ms.
func TestOthersHaveTheirTurnWhileABodyIsSent(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for name, c := range map[string]struct {
		piece   int
		length  int64
		perTurn int64 // reads, at most
	}{
		"of a length":         {bodyPiece, 1 << 62, 1},
		"in chunks":           {bodyPiece, -1, 1},
		"in chunks of a byte": {1, -1, stepPieces},
	} {
		peer := &restless{n: c.piece}
		s := &sender{e: &Exchange{}, c: &conn{rw: peer}, body: peer, left: c.length, began: time.Now()}
		s.done.Go(s.run)
		const turns = 100
		for range turns {
			runtime.Gosched()
		}
		reads := peer.reads.Load()
		peer.over.Store(true)
		s.done.Wait()
		if reads > 10*turns*c.perTurn {
			t.Errorf("%s: %d reads in %d turns of another goroutine", name, reads, turns)
		}
	}
}
