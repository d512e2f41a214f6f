// Package poll runs callbacks when sockets become ready, on a few loops instead
// of a goroutine for each socket.
package poll

import (
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

// Events say what a socket is ready for. An error or a hang-up is both.
type Events uint8

// Events.
const (
	Readable Events = 1 << iota
	Writable
)

// Poller is a set of loops.
type Poller struct {
	loops []*loop
	next  atomic.Uint32
}

// loop is one epoll instance. The goroutine that waits on it changes: whoever
// has to wait for something else leaves it to a new one.
type loop struct {
	epfd int
	wake int // eventfd that ends it

	panicked func(v any, stack []byte)

	mu      sync.Mutex
	sources []*Source // by slot; nil: free
	free    []uint32
	done    sync.WaitGroup // goroutines that are or were the loop
	closed  bool

	long queue // of the goroutine that is the loop
}

// New starts n loops: one for each processor is right. A loop that waits keeps
// one of Go's Ps in a system call, so that whatever else runs needs GOMAXPROCS to
// be larger than n. panicked is told of handlers that panic, on their loop; nil
// lets that end the process.
func New(n int, panicked func(v any, stack []byte)) (*Poller, error) {
	p := &Poller{}
	for range n {
		l, err := newLoop()
		if err != nil {
			p.Close()
			return nil, err
		}
		l.panicked = panicked
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
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		_ = unix.Close(epfd)
		_ = unix.Close(wake)
		return nil, fmt.Errorf("epoll_ctl: %w", err)
	}
	return l, nil
}

// Close ends the loops and joins their goroutines. No source may be armed.
func (p *Poller) Close() {
	for _, l := range p.loops {
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		l.done.Wait()
		_ = unix.Close(l.epfd)
		_ = unix.Close(l.wake)
	}
}

// Source is one socket on a loop.
type Source struct {
	loop *loop
	fd   int
	h    Handler
	slot uint32
	gen  uint32 // told apart from an earlier source in the same slot

	mu      sync.Mutex
	want    Events // armed for
	added   bool
	removed bool // never armed again: fd may be another's by now

	long, queued bool // its last turn was, and it is in the loop's queue; of the goroutine that is the loop
}

// Add puts the non-blocking socket fd on a loop, the one of near when that is
// not nil. It is not armed. fd must not be registered with another poller, Go's
// included.
func (p *Poller) Add(fd int, near *Source, h Handler) *Source {
	var l *loop
	if near != nil {
		l = near.loop
	} else {
		l = p.loops[p.next.Add(1)%uint32(len(p.loops))]
	}
	s := &Source{loop: l, fd: fd, h: h}
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

var generation atomic.Uint32

// Arm asks for e from now on, whenever the socket is ready for it; none of it
// asks for nothing. Events under way may still come.
func (s *Source) Arm(e Events) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.arm(e)
}

// Want adds e to what is asked for.
func (s *Source) Want(e Events) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.arm(s.want | e)
}

// Unwant takes e away from what is asked for.
func (s *Source) Unwant(e Events) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.arm(s.want &^ e)
}

func (s *Source) arm(e Events) error {
	if e == s.want || s.removed {
		return nil
	}
	op := unix.EPOLL_CTL_MOD
	switch {
	case e == 0: // a hang-up would be reported all the same: it has to go
		op = unix.EPOLL_CTL_DEL
	case !s.added:
		op = unix.EPOLL_CTL_ADD
	}
	ev := unix.EpollEvent{Fd: int32(s.slot), Pad: int32(s.gen)}
	if e&Readable != 0 {
		ev.Events |= unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if e&Writable != 0 {
		ev.Events |= unix.EPOLLOUT
	}
	// The loop takes the lock before it calls Ready, which thereby sees all that
	// was done before it was armed.
	s.loop.mu.Lock()
	err := unix.EpollCtl(s.loop.epfd, op, s.fd, &ev)
	s.loop.mu.Unlock()
	if err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	s.want, s.added = e, e != 0
	return nil
}

// Remove takes the source off its loop; Ready is not called again, but may be
// running. The descriptor stays open.
func (s *Source) Remove() {
	s.mu.Lock()
	_ = s.arm(0)
	s.removed = true
	s.mu.Unlock()
	l := s.loop
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sources[s.slot] == s {
		l.sources[s.slot] = nil
		l.free = append(l.free, s.slot)
	}
}

// event is a readiness that has been looked up.
type event struct {
	source *Source
	what   Events
}

// worker is the goroutine that is the loop.
type worker struct {
	loop *loop
	now  *event  // being delivered; nil: none
	rest []event // not delivered yet
	late event   // being delivered after others
	left bool    // another goroutine is the loop now

	yielded time.Time // when the scheduler last had a turn
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
	w := &worker{loop: l, rest: events}
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
		if l.closed {
			l.mu.Unlock()
			return true
		}
		for i := range raw[:n] {
			if s := l.sources[raw[i].Fd]; s != nil && s.gen == uint32(raw[i].Pad) {
				events = append(events, event{s, eventsOf(raw[i].Events)})
			}
		}
		l.mu.Unlock()
	}
}

// deliver calls a handler. It returns true when the handler has left the loop.
func (w *worker) deliver(leave func(), e *event) (left bool) {
	w.now = e
	turn := e.source.h.Ready(leave, e.what)
	w.now = nil
	if w.left {
		return true
	}
	if e.what&Readable != 0 {
		e.source.long = turn != Short
	}
	if turn == Again {
		w.loop.later(e.source)
	}
	return false
}

func eventsOf(bits uint32) (e Events) {
	if bits&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e |= Readable
	}
	if bits&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e |= Writable
	}
	return e
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
		n, err := unix.EpollWait(l.epfd, raw, -1)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
