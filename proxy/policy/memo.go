package policy

import (
	"sync"
	"sync/atomic"
	"time"
)

// slotted is a value that is asked for before it is needed, and again only when
// it has an end. until is 0 for the generation, else Unix nanoseconds.
type slotted[T any] struct {
	value atomic.Pointer[T]
	until atomic.Int64
}

// outOfDate is the until of what stands in until it is used.
const outOfDate = 1

// due tells whether the value is out of date, to one who asks: he renews it, and
// meanwhile others get the old one.
func (s *slotted[T]) due(p *Policy) bool {
	until := s.until.Load()
	if until == 0 || p.closed.Load() {
		return false
	}
	now := p.now()
	return nanos(now) >= until && s.until.CompareAndSwap(until, nanos(now.Add(faultTTL)))
}

func (s *slotted[T]) set(value *T, until int64) {
	s.value.Store(value)
	s.until.Store(until)
}

// memoSize bounds the answers a memo keeps.
const memoSize = 256

// memo keeps answers by their input, while they last.
type memo[T any] struct {
	mu sync.RWMutex
	m  map[string]memoed[T]
}

type memoed[T any] struct {
	value T
	until int64
}

func (m *memo[T]) get(key []byte, now time.Time) (T, bool) {
	m.mu.RLock()
	e, ok := m.m[string(key)]
	m.mu.RUnlock()
	return e.value, ok && (e.until == 0 || nanos(now) < e.until)
}

// put keeps value until then, in the place of any other when the memo is full.
func (m *memo[T]) put(key []byte, value T, until int64) {
	if until == expired {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.m == nil {
		m.m = make(map[string]memoed[T])
	}
	if _, known := m.m[string(key)]; !known && len(m.m) >= memoSize {
		for other := range m.m {
			delete(m.m, other)
			break
		}
	}
	m.m[string(key)] = memoed[T]{value, until}
}
