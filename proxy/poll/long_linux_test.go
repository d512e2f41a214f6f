package poll

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// turns is a handler that says what its turns are.
type turns func() Turn

func (h turns) Ready(func(), Events) Turn { return h() }

// spin is a turn that is long enough for the loop to look for others after it.
func spin() Turn {
	for began := time.Now(); time.Since(began) <= longSlice; {
	}
	return Long
}

// Who is readable without end has his turns in order with those like him, and
// holds up nobody who has little to do.
func TestLongTurnsComeAfterOthers(t *testing.T) {
	const many = 10
	p := newPoller(t, 1)
	light, lightEnd := sockets(t)
	type turn struct{ who, served int }
	took := make(chan turn, 1000)
	enough := make(chan struct{})
	asked, served, over := 0, 0, false // on the loop
	first := p.Add(light, nil, turns(func() Turn {
		n, _ := unix.Read(light, make([]byte, 100))
		served += n
		return Short
	}))
	if err := first.Arm(Readable); err != nil {
		t.Fatal(err)
	}
	for who := range many {
		a, b := sockets(t)
		var s *Source
		s = p.Add(a, first, turns(func() Turn {
			if !over && len(took) == 20*many {
				over = true
				close(enough)
			}
			if over {
				s.Remove()
				return Short
			}
			took <- turn{who, served - asked} // 0: all that was asked for
			write(t, lightEnd, "x")
			asked++
			return spin()
		}))
		t.Cleanup(s.Remove)
		write(t, b, "x") // and it is never read
		if err := s.Arm(Readable); err != nil {
			t.Fatal(err)
		}
	}
	<-enough
	var order []int
	begun, known := map[int]bool{}, false
	for n := 0; len(took) > 0; n++ {
		c := <-took
		if !known {
			// Of its first turn the loop can not know that it is long, and another
			// turn may come before it looks for others.
			known = len(begun) == many
			begun[c.who] = true
			continue
		}
		if c.served != 0 {
			t.Fatalf("turn %d, of %d, began while %d others were waiting", n, c.who, -c.served)
		}
		order = append(order, c.who)
	}
	for n := many; n < len(order); n++ {
		if slices.Contains(order[n-many+1:n], order[n]) {
			t.Fatalf("turns are taken out of order: %v", order)
		}
	}
}

// Who asks for it is called again though its socket has nothing.
func TestAgain(t *testing.T) {
	a, b := sockets(t)
	got := make(chan int, 10)
	calls := 0
	s := newPoller(t, 1).Add(a, nil, turns(func() Turn {
		_, _ = unix.Read(a, make([]byte, 1))
		calls++
		got <- calls
		if calls < 3 {
			return Again
		}
		return Short
	}))
	t.Cleanup(s.Remove)
	if err := s.Arm(Readable); err != nil {
		t.Fatal(err)
	}
	write(t, b, "x")
	for want := range 3 {
		if n := <-got; n != want+1 {
			t.Errorf("call %d, want %d", n, want+1)
		}
	}
	write(t, b, "x")
	if n := <-got; n != 4 {
		t.Errorf("call %d after the last, want 4", n)
	}
}

// One that was put off and is removed before its turn has none.
func TestRemovedBeforeItsLongTurn(t *testing.T) {
	p := newPoller(t, 1)
	var all [2]*Source
	calls := make(chan int, 100)
	var gone *Source // on the loop
	var near *Source
	for who := range all {
		a, b := sockets(t)
		n := 0
		all[who] = p.Add(a, near, turns(func() Turn {
			if gone == all[who] {
				t.Error("called after its removal")
			}
			if n++; n == 5 { // the other one is in the queue, or has had its turn
				gone = all[1-who]
				gone.Remove()
				all[who].Remove()
				close(calls)
			}
			return spin()
		}))
		near = all[who]
		write(t, b, "x")
	}
	for _, s := range all {
		if err := s.Arm(Readable); err != nil {
			t.Fatal(err)
		}
	}
	for range calls {
	}
}

// Who had a long turn comes after others for a few more, and then no longer.
func TestLongIsForgotten(t *testing.T) {
	a, b := sockets(t)
	p := newPoller(t, 1)
	calls := make(chan int, 1)
	said := Long
	var s *Source
	s = p.Add(a, nil, turns(func() Turn {
		_, _ = unix.Read(a, make([]byte, 1))
		turn := said
		said = Short
		calls <- s.long
		return turn
	}))
	t.Cleanup(s.Remove)
	if err := s.Arm(Readable); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{0, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0} {
		write(t, b, "x")
		if got := <-calls; got != want {
			t.Errorf("%d more turns come after others, want %d", got, want)
		}
	}
}

// So have tasks that find more and more to do: what is asked for while one of them has
// its turn is done before the next has one.
func TestTasksThatPauseComeAfterOthers(t *testing.T) {
	const many, rounds = 10, 5
	p := newPoller(t, 1)
	fd, _ := sockets(t)
	s := p.Add(fd, nil, turns(func() Turn { return Short }))
	t.Cleanup(s.Remove)
	asked, done, late, over := 0, 0, 0, 0 // on the loop
	ended := make(chan struct{})
	s.Call(func(leave func()) {
		for range many {
			p.NewTask(func(task *Task) {
				for range rounds {
					for task.steps = maxSteps; task.steps > 0; {
						task.Pause(s) // which begins a turn, with no steps
					}
					if asked > done {
						late++
					}
					asked++
					s.Call(func(func()) { done++ })
					spin()
				}
				if over++; over == many {
					close(ended)
				}
			}).Resume(leave)
		}
	})
	<-ended
	if late > 0 {
		t.Errorf("%d of %d turns began while others were waiting", late, many*rounds)
	}
}

func TestATaskWithManyStepsHadALongTurn(t *testing.T) {
	p := newPoller(t, 1)
	fd, _ := sockets(t)
	s := p.Add(fd, nil, turns(func() Turn { return Short }))
	t.Cleanup(s.Remove)
	task := p.NewTask(func(task *Task) {
		for range longSteps + 1 {
			task.Pause(s)
		}
		task.Wait()
		task.Pause(s)
		task.Wait()
	})
	for i, want := range []Turn{Long, Short} {
		task.Resume(nil)
		if got := task.Turn(); got != want {
			t.Errorf("turn %d: %v, want %v", i, got, want)
		}
	}
	task.Resume(nil)
}
