package poll

import (
	"sync"
	"testing"
)

func TestATaskRunsUntilItWaits(t *testing.T) {
	var told []string
	task := newPoller(t, 1).NewTask(func(task *Task) {
		told = append(told, "begun")
		task.Wait()
		told = append(told, "resumed")
	})
	for i, want := range []string{"begun", "resumed", "resumed"} {
		task.Resume(nil)
		if got := told[len(told)-1]; got != want {
			t.Errorf("after %d resumes: %q, want %q", i+1, got, want)
		}
	}
	if len(told) != 2 {
		t.Errorf("a task that has ended ran again: %q", told)
	}
}

func TestAResumeOfARunningTaskIsNotLost(t *testing.T) {
	rounds := 0
	task := newPoller(t, 1).NewTask(func(task *Task) {
		task.Resume(nil)
		task.Wait()
		rounds++
		task.Wait()
		rounds++
	})
	task.Resume(nil)
	if rounds != 1 {
		t.Errorf("passed %d waits, want 1", rounds)
	}
}

func TestLeaveIsTheCallersAndOnce(t *testing.T) {
	left := 0
	task := newPoller(t, 1).NewTask(func(task *Task) {
		task.Leave()
		task.Leave()
		task.Wait()
		task.Leave()
	})
	leave := func() { left++ }
	task.Resume(leave)
	if left != 1 {
		t.Errorf("left %d times before the first wait, want 1", left)
	}
	task.Resume(nil) // by nobody's loop: there is nothing to leave
	if left != 1 {
		t.Errorf("left %d times, want 1", left)
	}
}

// Whoever resumes, however many at once: one at a time runs it, and none of
// them waits for another.
func TestATaskIsResumedFromEverywhere(t *testing.T) {
	const resumes = 1000
	running, waits := 0, 0
	task := newPoller(t, 1).NewTask(func(task *Task) {
		for {
			running++
			if running != 1 {
				panic("two run it")
			}
			running--
			waits++
			task.Wait()
		}
	})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range resumes {
				task.Resume(nil)
			}
		})
	}
	all.Wait()
	task.Resume(nil)
	if waits < 2 || waits > 4*resumes+1 {
		t.Errorf("waited %d times for %d resumes", waits, 4*resumes+1)
	}
}

// A stack whose task has ended serves the next, and none outlives its poller.
func TestStacksAreUsedAgain(t *testing.T) {
	p := newPoller(t, 1)
	var deep func(n int) int
	deep = func(n int) int {
		var frame [64]int
		if n > 0 {
			frame[n%64] = deep(n - 1)
		}
		return frame[n%64] + 1
	}
	first := p.NewTask(func(*Task) { deep(100) })
	on := first.on
	first.Resume(nil)
	other := p.NewTask(func(task *Task) { task.Wait() })
	if other.on != on {
		t.Error("a stack that is idle was not used")
	}
	other.Resume(nil)
	first.Resume(nil) // has ended: this is nobody's turn
	other.Resume(nil)
	if n := len(p.stacks.idle); n != 1 {
		t.Errorf("%d stacks are idle, want 1", n)
	}
	var many []*Task
	for range 2 * maxIdle {
		many = append(many, p.NewTask(func(task *Task) { task.Wait() }))
	}
	for range 2 { // to the wait, to the end
		for _, task := range many {
			task.Resume(nil)
		}
	}
	if n := len(p.stacks.idle); n != maxIdle {
		t.Errorf("%d stacks are idle, want %d", n, maxIdle)
	}
}

// Who has many wait at once would keep as many stacks of loops.
func TestALightTaskLeavesItsLoop(t *testing.T) {
	var free sync.Mutex
	free.Lock()
	over := make(chan struct{})
	task := newPoller(t, 1).NewTask(func(task *Task) {
		task.Lighten()
		free.Lock() // nobody else is held up
		task.Leave()
		close(over)
	})
	task.Resume(func() { t.Error("the loop had to go on in another goroutine") })
	free.Unlock()
	<-over
}

func TestAPanicOfALightTaskIsItsOwn(t *testing.T) {
	told := make(chan any, 1)
	p, err := New(1, func(v any, _ []byte) { told <- v })
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.NewTask(func(task *Task) {
		task.Lighten()
		panic("injected")
	}).Resume(nil)
	if v := <-told; v != "injected" {
		t.Errorf("told of %v", v)
	}
}
