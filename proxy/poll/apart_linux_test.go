package poll

import (
	"runtime"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"
)

// A loop that runs where another does moves to a processor without one, if there
// is one that it may run on, and is free to go anywhere afterwards.
func TestLoopsKeepApart(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.SchedSetaffinity(0, &allowed) }()

	var all []int64
	for cpu := range int64(1024) {
		if allowed.IsSet(int(cpu)) {
			all = append(all, cpu)
		}
	}
	for n := 1; n <= len(all); n++ { // processors that this thread may run on
		var some unix.CPUSet
		for _, cpu := range all[:n] {
			some.Set(int(cpu))
		}
		if err := unix.SchedSetaffinity(0, &some); err != nil {
			t.Fatal(err)
		}
		for others := range n + 1 { // loops on the first of them
			p := make(places, 1+others)
			for i := range others {
				p[1+i].Store(all[i] + 1)
			}
			p.apart(0)
			at := p[0].Load() - 1
			if !some.IsSet(int(at)) || others < n && p.taken(0, at) {
				t.Errorf("%d processors, %d with a loop: the next loop is on %d", n, others, at)
			}
			var now unix.CPUSet
			if err := unix.SchedGetaffinity(0, &now); err != nil || now != some {
				t.Errorf("%d processors, %d with a loop: the thread may run on %v, %v", n, others, now, err)
			}
		}
	}
}

// Who leaves the loop leaves it to a goroutine that has just been scheduled: there
// is no turn to give yet, and nothing to look at.
func TestLeavingIsNoYield(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no time passes
		p := newPoller(t, 1)
		a, _ := sockets(t)
		source := p.Add(a, nil, handler(func(func(), Events) {}))
		defer source.Remove()
		left := make(chan bool)
		for range 10 {
			source.Call(func(leave func()) {
				leave()
				left <- true
			})
			<-left
		}
		if at := p.loops[0].places[0].Load(); at != 0 {
			t.Errorf("the loop looked where it runs: processor %d", at-1)
		}
	})
}
