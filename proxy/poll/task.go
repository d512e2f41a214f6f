package poll

import (
	"iter"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// Task is a function that gives its loop back while it waits: code that reads
// from top to bottom as if it had a goroutine of its own, and costs a switch of
// stacks where that would cost a wake-up of the scheduler's.
//
// It runs on whoever resumes it, one at a time, until it waits or ends.
type Task struct {
	state atomic.Uint32
	on    *stack // until it ends
	idle  *stacks
	leave func()      // of the loop it runs on; nil: none, or it has left it
	steps int         // since it was resumed
	long  atomic.Bool // its last turn had many
	light bool        // another goroutine is to go on with it (Lighten)
}

// longSteps are more than a small request takes at once: a turn that had them is long.
const longSteps = 6

// maxSteps is how many steps a task takes before it lets others have the loop:
// reads or writes of some 32 KiB that found all they needed.
const maxSteps = 16

// stack is a coroutine that runs tasks one after the other: a new one costs a
// goroutine, and has to grow.
type stack struct {
	next  func() (over, ok bool) // runs the task until it waits, or is over
	stop  func()
	yield func(over bool) bool
	run   func()
}

func newStack() *stack {
	s := &stack{}
	s.next, s.stop = iter.Pull(func(yield func(bool) bool) {
		s.yield = yield
		for {
			s.run()
			if s.run = nil; !yield(true) {
				return
			}
		}
	})
	return s
}

// stacks are those that no task is on.
type stacks struct {
	carriers sync.WaitGroup // goroutines that go on with a task (Lighten)
	panicked func(v any, stack []byte)

	mu     sync.Mutex
	idle   []*stack
	closed bool
}

// maxIdle bounds the stacks that are kept; each is of some 16 KiB.
const maxIdle = 128

func (p *stacks) take() *stack {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return newStack()
	}
	s := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	return s
}

func (p *stacks) put(s *stack) {
	p.mu.Lock()
	keep := !p.closed && len(p.idle) < maxIdle
	if keep {
		p.idle = append(p.idle, s)
	}
	p.mu.Unlock()
	if !keep {
		s.stop()
	}
}

// close ends those that are idle, and from here on those that become so, and joins
// whoever went on with a task.
func (p *stacks) close() {
	p.carriers.Wait()
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, s := range idle {
		s.stop()
	}
}

// carry has another goroutine go on with a task. A panic ends that and not the
// process, as on a loop.
func (p *stacks) carry(t *Task) {
	p.carriers.Go(func() {
		defer p.contain()
		t.run(nil)
	})
}

func (p *stacks) contain() {
	if p.panicked == nil {
		return
	}
	if v := recover(); v != nil {
		p.panicked(v, debug.Stack())
	}
}

// States of a task.
const (
	taskWaiting uint32 = iota
	taskRunning
	taskWoken // running, and to go on when it waits next
	taskEnded
)

// NewTask returns a task that runs f, from its first Resume on.
func (p *Poller) NewTask(f func(*Task)) *Task {
	t := &Task{on: p.stacks.take()}
	t.on.run = func() { f(t) }
	t.idle = &p.stacks
	return t
}

// Resume runs the task until it waits or ends, or has it go on at its next Wait
// when it is running. It may be called from any goroutine; leave is that of the
// loop that calls, nil when none does.
func (t *Task) Resume(leave func()) {
	for {
		switch t.state.Load() {
		case taskWaiting:
			if t.state.CompareAndSwap(taskWaiting, taskRunning) {
				t.run(leave)
				return
			}
		case taskRunning:
			if t.state.CompareAndSwap(taskRunning, taskWoken) {
				return
			}
		default:
			return
		}
	}
}

func (t *Task) run(leave func()) {
	t.leave = leave
	for {
		t.steps = 0
		if over, _ := t.on.next(); over {
			t.state.Store(taskEnded)
			t.idle.put(t.on)
			t.on = nil
			return
		}
		t.long.Store(t.steps > longSteps)
		if t.light {
			t.light, t.leave = false, nil
			t.idle.carry(t)
			return
		}
		left := t.leave
		t.leave = nil // from the swap on, the task may be somebody else's
		if t.state.CompareAndSwap(taskRunning, taskWaiting) {
			return
		}
		t.leave = left
		t.state.Store(taskRunning)
	}
}

// Turn is what its last turn was.
func (t *Task) Turn() Turn {
	if t.long.Load() {
		return Long
	}
	return Short
}

// Wait gives the loop back until Resume. It may return without one: who waits
// for something looks again. Only the task itself calls it.
func (t *Task) Wait() { t.on.yield(false) }

// Pause is called by the task before each step of work that may have no end.
// After many of them the task waits until s's loop has done its other work: it goes on
// among those whose turns are long.
func (t *Task) Pause(s *Source) {
	if t.steps++; t.steps > maxSteps {
		s.callLate(t.Resume)
		t.Wait()
	}
}

// Leave is called by the task before it waits for anything else than Resume, or
// computes for long: its loop goes on in another goroutine until the next Wait.
func (t *Task) Leave() {
	if leave := t.leave; leave != nil {
		t.leave = nil
		leave()
	}
}

// Lighten is Leave for what waits and does not compute: a new goroutine goes on with
// the task, which has nothing else on its stack, and whoever resumed it, the loop or
// who has left that, goes on without it.
func (t *Task) Lighten() {
	t.light = true
	t.on.yield(false)
}
