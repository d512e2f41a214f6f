// Package poll runs callbacks when sockets become ready, on a few loops instead
// of a goroutine for each socket.
package poll

import (
	"container/heap"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Handler is told that its socket is ready.
type Handler interface {
	// Ready runs on a loop. It must not wait, unless it calls leave first, once:
	// from there on the goroutine is its own.
	//
	// Sockets whose turns are long are called when no other is ready, and a few
	// at a time: what it returns is the loop's only way to tell. After leave it
	// does not matter.
	//
	// A panic in it ends neither its loop nor those that share it: the socket is
	// taken off the loop, and New's panicked is told.
	Ready(leave func(), e Events) Turn
}

// Events say what a socket is ready for, of what is asked for: an error or a
// hang-up is all of that.
type Events uint8

// Events.
const (
	Readable Events = 1 << iota
	Writable
	// HungUp: the other side has ended its sending, or all of it; only told along
	// with Readable.
	HungUp
)

// Poller is a set of loops.
type Poller struct {
	loops []*loop
	next  atomic.Uint32 // where the search for the least busy loop begins

	stacks stacks
}

// loop is one epoll instance. The goroutine that waits on it changes: whoever
// has to wait for something else leaves it to a new one.
type loop struct {
	n    int // of the poller's
	epfd int
	wake int // eventfd that interrupts its wait

	panicked func(v any, stack []byte)

	mu      sync.Mutex
	sources []*Source // by slot; nil: free
	free    []uint32
	calls   []func(leave func()) // to be made at its next turn
	alarms  alarms
	asleep  bool           // it waits, or is about to
	until   time.Time      // when its wait ends by itself; zero: it does not
	done    sync.WaitGroup // goroutines that are or were the loop
	closed  bool

	busy atomic.Int32 // sources it has

	places places // of all the poller's loops
	long   queue  // of the goroutine that is the loop
}

// New starts n loops: one for each processor is right. A loop that waits keeps
// one of Go's Ps in a system call, so that whatever else runs needs GOMAXPROCS to
// be larger than n. panicked is told of handlers that panic, on their loop; nil
// lets that end the process.
func New(n int, panicked func(v any, stack []byte)) (*Poller, error) {
	p := &Poller{}
	p.stacks.panicked = panicked
	places := make(places, n)
	for i := range n {
		l, err := newLoop()
		if err != nil {
			p.Close()
			return nil, err
		}
		l.n, l.panicked, l.places = i, panicked, places
		p.loops = append(p.loops, l)
		l.done.Go(func() { l.run(nil) })
	}
	return p, nil
}

func newLoop() (*loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epfd)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	l := &loop{epfd: epfd, wake: wake, sources: []*Source{nil}} // slot 0 is wake
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET}); err != nil {
		_ = unix.Close(epfd)
		_ = unix.Close(wake)
		return nil, fmt.Errorf("epoll_ctl: %w", err)
	}
	return l, nil
}

// Loops is how many there are.
func (p *Poller) Loops() int { return len(p.loops) }

// Close ends the loops and joins their goroutines. No source may be armed, and
// every task has ended.
func (p *Poller) Close() {
	for _, l := range p.loops {
		l.mu.Lock()
		l.closed = true
		l.interrupt()
		l.mu.Unlock()
		l.done.Wait()
		_ = unix.Close(l.epfd)
		_ = unix.Close(l.wake)
	}
	p.stacks.close()
}

// interrupt ends the wait under way, or the next. It is edge-triggered, so that
// nobody need read what is written.
func (l *loop) interrupt() {
	_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// rouse makes sure that the loop is awake at t, zero being now; under mu.
func (l *loop) rouse(t time.Time) {
	if l.asleep && (l.until.IsZero() || t.Before(l.until)) {
		l.asleep = false
		l.interrupt()
	}
}

// Add puts the non-blocking socket fd on a loop: the one of near when that is
// not nil, else the one that has the fewest. It is not armed. fd must not be
// registered with another poller, Go's included.
func (p *Poller) Add(fd int, near *Source, h Handler) *Source {
	l := p.least()
	if near != nil {
		l = near.loop
	}
	return l.add(fd, 0, h)
}

// AddEdge is Add for a socket whose Handler is told of what changes, once, and
// not of how it stands: it is armed once for all, and remembers what it was
// told.
func (p *Poller) AddEdge(fd int, near *Source, h Handler) *Source {
	s := p.Add(fd, near, h)
	s.mode = unix.EPOLLET
	return s
}

// AddAll puts a listening socket on every loop; one of those that wait is told
// of each connection, or a few are.
func (p *Poller) AddAll(fd int, h Handler) []*Source {
	all := make([]*Source, 0, len(p.loops))
	for _, l := range p.loops {
		all = append(all, l.add(fd, unix.EPOLLEXCLUSIVE, h))
	}
	return all
}

// least is the loop with the fewest sources.
func (p *Poller) least() *loop {
	start := int(p.next.Add(1) % uint32(len(p.loops)))
	best := p.loops[start]
	for i := 1; i < len(p.loops); i++ {
		if l := p.loops[(start+i)%len(p.loops)]; l.busy.Load() < best.busy.Load() {
			best = l
		}
	}
	return best
}

func (l *loop) add(fd int, mode uint32, h Handler) *Source {
	s := &Source{loop: l, fd: fd, h: h, mode: mode}
	l.busy.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.free); n > 0 {
		s.slot, l.free = l.free[n-1], l.free[:n-1]
		s.gen = generation.Add(1)
		l.sources[s.slot] = s
	} else {
		s.slot = uint32(len(l.sources))
		s.gen = generation.Add(1)
		l.sources = append(l.sources, s)
	}
	return s
}

// event is something to be called for: a readiness that has been looked up, or
// a call that was asked for.
type event struct {
	source *Source
	what   Events
	call   func(leave func()) // instead of source's Ready
}

// worker is the goroutine that is the loop.
type worker struct {
	loop *loop
	now  *event  // being delivered; nil: none
	rest []event // not delivered yet
	late event   // being delivered after others
	left bool    // another goroutine is the loop now

	yielded time.Time // when the scheduler last had a turn
	long    bool      // a turn was, since
}

// leave makes the handler's goroutine its own: another one goes on being the
// loop. Further calls do nothing.
func (w *worker) leave() {
	if w.left {
		return
	}
	w.left = true
	rest := w.rest
	w.rest = nil
	w.loop.done.Go(func() { w.loop.run(rest) })
}

// maxEvents is how many readinesses are taken from the kernel at once.
const maxEvents = 128

// run is the loop. It ends when the loop is closed or left to another goroutine.
func (l *loop) run(events []event) {
	w := &worker{loop: l, rest: events, yielded: time.Now()} // it has just been scheduled
	for !w.turns() {
	}
}

// contain is what becomes of a panic: one of a handler ends its turn. over: so
// does the goroutine, since it was the handler's own already.
func (w *worker) contain(over *bool) {
	if w.now == nil || w.loop.panicked == nil {
		return // there is none, or it is nobody's to bear
	}
	v := recover()
	if v == nil {
		return
	}
	if s := w.now.source; s != nil {
		s.Remove() // it would be ready again at once
	}
	w.now = nil
	*over = w.left
	w.loop.panicked(v, debug.Stack())
}

// turns is what a loop does: deliver, wait, look up, deliver. It returns true
// when this goroutine is the loop no more, and false when a handler panicked.
func (w *worker) turns() (over bool) {
	defer w.contain(&over)
	l, events := w.loop, w.rest
	leave := w.leave // bound once
	var raw [maxEvents]unix.EpollEvent
	var found [maxEvents]event
	for {
		for i := range events {
			w.rest = events[i+1:]
			if !l.defers(&events[i]) && w.deliver(leave, &events[i]) {
				return true
			}
		}
		if w.longTurns(leave) {
			return true
		}
		w.yield()
		n, err := l.wait(raw[:], len(events) > 1, !l.long.empty())
		if err != nil {
			panic(fmt.Sprintf("poll: epoll_wait: %v", err)) // EBADF or EINVAL: a bug
		}
		events = found[:0]
		l.mu.Lock()
		l.asleep = false
		if l.closed {
			l.mu.Unlock()
			return true
		}
		for i := range raw[:n] {
			s := l.sources[raw[i].Fd]
			if s == nil || s.gen != uint32(raw[i].Pad) {
				continue
			}
			if what := eventsOf(raw[i].Events, s.want); what != 0 {
				events = append(events, event{source: s, what: what})
			}
		}
		events = l.due(events)
		l.mu.Unlock()
	}
}

// deliver calls a handler, or what was asked to be called. It returns true when
// that has left the loop.
func (w *worker) deliver(leave func(), e *event) (left bool) {
	w.now = e
	turn := Short
	if e.call != nil {
		e.call(leave)
	} else {
		turn = e.source.h.Ready(leave, e.what)
	}
	w.now = nil
	if w.left || e.call != nil {
		return w.left
	}
	switch s := e.source; {
	case turn != Short:
		s.long = longFor
		w.long = true
	case e.what&Readable != 0 && s.long > 0:
		s.long--
	}
	if turn == Again {
		w.loop.later(e.source)
	}
	return false
}

// due appends the calls and alarms whose time has come; under mu.
func (l *loop) due(events []event) []event {
	for i, f := range l.calls {
		events = append(events, event{call: f})
		l.calls[i] = nil
	}
	l.calls = l.calls[:0]
	if len(l.alarms) > 0 {
		now := time.Now()
		for len(l.alarms) > 0 && !l.alarms[0].due.After(now) {
			events = append(events, event{call: heap.Pop(&l.alarms).(*Alarm).call})
		}
	}
	return events
}

// eventsOf is what the kernel tells, of what is wanted. It tells of errors and
// hang-ups unasked: who reads no more for now may not be called for them.
func eventsOf(bits uint32, want Events) (e Events) {
	if bits&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e |= Readable | HungUp
	}
	if bits&unix.EPOLLIN != 0 {
		e |= Readable
	}
	if bits&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e |= Writable
	}
	if want&Readable != 0 {
		want |= HungUp
	}
	return e & want
}

// wait takes what is ready. On a busy loop that is tried without telling the
// scheduler first; a quiet one waits at once, and one that has more to do does
// not wait.
func (l *loop) wait(raw []unix.EpollEvent, busy, more bool) (int, error) {
	if busy || more {
		n, errno := epollNow(l.epfd, raw)
		switch {
		case n > 0:
			return n, nil
		case errno != 0 && errno != unix.EINTR:
			return 0, errno
		case more:
			return 0, nil
		}
	}
	for {
		n, err := unix.EpollWait(l.epfd, raw, l.fallAsleep())
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// fallAsleep returns for how many milliseconds the loop may wait; -1: for ever.
func (l *loop) fallAsleep() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.calls) > 0 || l.closed {
		return 0
	}
	l.asleep = true
	if len(l.alarms) == 0 {
		l.until = time.Time{}
		return -1
	}
	l.until = l.alarms[0].due
	const longest = time.Minute // an int of 32 bits holds more
	return int(max(0, min(time.Until(l.until), longest)+time.Millisecond-1) / time.Millisecond)
}
