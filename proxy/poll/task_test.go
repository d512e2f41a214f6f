package poll

import (
	"sync"
	"testing"
)

func TestATaskRunsUntilItWaits(t *testing.T) {
	var told []string
	task := NewTask(func(t *Task) {
		told = append(told, "begun")
		t.Wait()
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
	task := NewTask(func(t *Task) {
		t.Resume(nil)
		t.Wait()
		rounds++
		t.Wait()
		rounds++
	})
	task.Resume(nil)
	if rounds != 1 {
		t.Errorf("passed %d waits, want 1", rounds)
	}
}

func TestLeaveIsTheCallersAndOnce(t *testing.T) {
	left := 0
	task := NewTask(func(t *Task) {
		t.Leave()
		t.Leave()
		t.Wait()
		t.Leave()
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
	task := NewTask(func(t *Task) {
		for {
			running++
			if running != 1 {
				panic("two run it")
			}
			running--
			waits++
			t.Wait()
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
