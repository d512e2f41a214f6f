package poll

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Source is one socket on a loop.
type Source struct {
	loop *loop
	fd   int
	h    Handler
	slot uint32
	gen  uint32 // told apart from an earlier source in the same slot
	mode uint32 // more bits of its epoll_event

	mu      sync.Mutex
	want    Events // armed for; changed under loop.mu, too, and read under either
	added   bool
	removed bool // never armed again: fd may be another's by now

	// Of the goroutine that is the loop:
	long   int  // how many more of its turns come after others
	queued bool // it is in the loop's queue
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

// Wants reports whether e is asked for.
func (s *Source) Wants(e Events) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.want&e == e
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
	ev := unix.EpollEvent{Events: s.mode, Fd: int32(s.slot), Pad: int32(s.gen)}
	if e&Readable != 0 {
		ev.Events |= unix.EPOLLIN
		if s.mode != unix.EPOLLEXCLUSIVE { // which allows no more
			ev.Events |= unix.EPOLLRDHUP
		}
	}
	if e&Writable != 0 {
		ev.Events |= unix.EPOLLOUT
	}
	// The loop takes the lock before it calls Ready, which thereby sees all that
	// was done before it was armed.
	s.loop.mu.Lock()
	defer s.loop.mu.Unlock()
	if err := unix.EpollCtl(s.loop.epfd, op, s.fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	s.want, s.added = e, e != 0
	return nil
}

// Remove takes the source off its loop; Ready may be running, or be called once more
// for what the loop has found already. The descriptor stays open.
func (s *Source) Remove() {
	s.mu.Lock()
	_ = s.arm(0)
	s.mu.Unlock()
	s.Forget()
}

// Forget is Remove for a descriptor that is closed next, and has no duplicate:
// the kernel takes it off by itself then.
func (s *Source) Forget() {
	s.mu.Lock()
	s.removed = true
	s.mu.Unlock()
	l := s.loop
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sources[s.slot] == s {
		l.sources[s.slot] = nil
		l.free = append(l.free, s.slot)
		l.busy.Add(-1)
	}
}

// Loop is the number of the source's loop, from 0.
func (s *Source) Loop() int { return s.loop.n }

// Call has f called on the source's loop, soon and once; leave is as for Ready.
func (s *Source) Call(f func(leave func())) {
	l := s.loop
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, f)
	l.rouse(time.Time{})
}
