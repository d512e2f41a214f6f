package upstream

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"weir/proxy/crash"
)

const (
	maxIdle    = 1024                   // idle connections kept on a shelf
	idleExpiry = 50 * time.Second       // below the 60 s after which common servers close
	spareAfter = 100 * time.Millisecond // unused, what a shelf has may serve another loop
)

// shelf holds what the exchanges of one loop keep of a target: loops that wrote
// to the same memory for each exchange would wait for each other's caches.
type shelf struct {
	inUse atomic.Int64 // connections, detached ones included

	mu     sync.Mutex
	idle   []*conn // the one used last is last
	expire *time.Timer
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
	if s.closed || len(s.idle) >= maxIdle {
		_ = c.nc.Close()
		return
	}
	c.nc.Bind(nil)
	c.idleSince = time.Now()
	s.idle = append(s.idle, c)
	if s.expire == nil {
		s.expire = time.AfterFunc(idleExpiry, func() { panicked.Contain(s.reap) })
	}
}

// reap closes what was idle for too long; it runs again while there is more.
func (s *shelf) reap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	now := time.Now()
	n := 0
	for n < len(s.idle) && now.Sub(s.idle[n].idleSince) >= idleExpiry {
		_ = s.idle[n].nc.Close()
		n++
	}
	s.idle = slices.Delete(s.idle, 0, n)
	if len(s.idle) == 0 {
		s.expire = nil
		return
	}
	s.expire.Reset(idleExpiry - now.Sub(s.idle[0].idleSince))
}

func (s *shelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.idle)
}

func (s *shelf) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.expire != nil {
		s.expire.Stop()
	}
	for _, c := range s.idle {
		_ = c.nc.Close()
	}
	s.idle = nil
}
