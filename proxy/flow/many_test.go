package flow

import (
	"fmt"
	"testing"
)

// laidAnew counts how often what waits of a priority is laid together anew while n
// messages of so many priorities come by turns.
func laidAnew(t *testing.T, priorities, n int) (times int) {
	t.Helper()
	q := newQueue(1<<20, nil)
	defer q.Close()
	wire := []byte("a message of some bytes")
	var first *block
	for i := range n {
		if !q.Push(Message{Wire: wire, Droppable: true, Priority: uint8(i % priorities)}) {
			t.Fatal("it does not fit")
		}
		if b := q.chains[0].blocks[0]; b != first {
			first = b
			times++
		}
	}
	return times
}

// A new block for each of many priorities at once is no reason to lay all that waits
// together anew: that would be so again with the next message of each.
func TestManyPrioritiesAreNotLaidAnewForEachBlock(t *testing.T) {
	for _, priorities := range []int{1, 2, 3, 4, 5, 8, 16, 64, 256} {
		if n := laidAnew(t, priorities, 20000); n > 20 {
			t.Errorf("%d priorities: laid anew %d times for 20000 messages", priorities, n)
		}
	}
}

// A state that was superseded is found without a walk through the other priorities, of
// which each may have a block of a thousand states that were not.
func TestSupersededStatesAreFoundInTheirPriority(t *testing.T) {
	q := newQueue(1<<20, nil)
	defer q.Close()
	for i := range 2000 {
		for p := range 8 {
			name := "always the same"
			if i < 1000 {
				name = fmt.Sprint(i)
			}
			if !q.Push(Message{Wire: []byte("0123456789"), Droppable: true, Priority: uint8(p), Conflate: fmt.Sprint(p, name)}) {
				t.Fatal("it does not fit")
			}
		}
	}
	walked := 0
	for range 1000 {
		for _, c := range q.chains {
			c.at = cursor{}
		}
		if !q.Yield(&Message{}) {
			t.Fatal("nothing is given up")
		}
		for _, c := range q.chains {
			if c.at != (cursor{}) {
				walked++
			}
		}
	}
	if walked > 2100 {
		t.Errorf("%d priorities were walked for 1000 states, want two for each: the one that had the last, and the one that has the oldest", walked)
	}
}
