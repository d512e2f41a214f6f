package upstream

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"weir/proxy/crash"
)

const (
	maxIdle    = 4096                   // idle connections kept on a shelf
	maxSpared  = 64                     // of them given up at once
	reapEvery  = time.Second            // at most: a shelf of thousands is gone through
	idleExpiry = 50 * time.Second       // below the 60 s after which common servers close, unless they say another time
	spareAfter = 100 * time.Millisecond // unused, what a shelf has may serve another loop
)

// shelf holds what the exchanges of one loop keep of a target: loops that wrote
// to the same memory for each exchange would wait for each other's caches.
type shelf struct {
	inUse atomic.Int64 // connections, detached ones included

	mu     sync.Mutex
	idle   []*conn // the one used last is last
	expire *time.Timer
	due    time.Time // of expire
	closed bool

	_ [64]byte // to the next shelf's cache line
}

// take returns the connection used last that is still open; nil: there is none.
func (s *shelf) take(now time.Time, again bool) *conn {
	for {
		c := s.pop()
		if c == nil || c.open(now, again) {
			return c
		}
		_ = c.nc.Close()
	}
}

// spare reports whether the loop has done without its connections for a while.
func (s *shelf) spare(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.idle)
	return n > 0 && now.Sub(s.idle[n-1].idleSince) >= spareAfter
}

func (s *shelf) pop() *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.idle)
	if n == 0 {
		return nil
	}
	c := s.idle[n-1]
	s.idle[n-1] = nil
	s.idle = s.idle[:n-1]
	return c
}

// put keeps c for another exchange, or closes it.
func (s *shelf) put(c *conn, panicked crash.Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.idle) >= maxIdle || c.keep == 0 {
		_ = c.nc.Close()
		return
	}
	c.nc.Bind(nil)
	c.idleSince = time.Now()
	s.idle = append(s.idle, c)
	wait := max(c.keep, reapEvery)
	due := c.idleSince.Add(wait)
	switch {
	case s.expire == nil:
		s.expire, s.due = time.AfterFunc(wait, func() { panicked.Contain(s.reap) }), due
	case due.Before(s.due):
		s.expire.Reset(wait)
		s.due = due
	}
}

// reap closes what was idle for as long as it may be; it runs again while there is
// more. A loop that takes or puts does not wait for that.
func (s *shelf) reap() { closeAll(s.expired(time.Now())) }

func (s *shelf) expired(now time.Time) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	var old []*conn
	next := idleExpiry
	s.idle = slices.DeleteFunc(s.idle, func(c *conn) bool {
		left := c.keep - now.Sub(c.idleSince)
		if left <= 0 {
			old = append(old, c)
			return true
		}
		next = min(next, left)
		return false
	})
	if len(s.idle) == 0 {
		s.expire = nil
	} else {
		wait := max(next, reapEvery)
		s.expire.Reset(wait)
		s.due = now.Add(wait)
	}
	return old
}

// oldest takes those away that were used longest ago, n at most.
func (s *shelf) oldest(n int) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = min(n, len(s.idle))
	old := slices.Clone(s.idle[:n])
	s.idle = slices.Delete(s.idle, 0, n)
	return old
}

func closeAll(conns []*conn) {
	for _, c := range conns {
		_ = c.nc.Close()
	}
}

func (s *shelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.idle)
}

func (s *shelf) close() {
	s.mu.Lock()
	s.closed = true
	if s.expire != nil {
		s.expire.Stop()
	}
	idle := s.idle
	s.idle = nil
	s.mu.Unlock()
	closeAll(idle)
}
