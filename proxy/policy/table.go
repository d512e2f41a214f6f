package policy

import (
	"hash/maphash"
	"sync/atomic"
)

// table finds rules by event key. Readers take no lock and see every entry
// either whole or not at all: a slot is an atomic pointer, an entry is
// immutable but for its mark, and only an empty slot or one with the same key is ever stored to.
// Writers hold View.mu. Whatever else would move an entry makes a new table.
//
// It stands in for a map that is copied on write, which finds a key as fast but
// copies all others for each new one (BenchmarkRule).
type table struct {
	slots []atomic.Pointer[entry] // a power of two, at most half of them used
	used  int                     // guarded by View.mu
}

// entry is a cached rule; until is 0 for the generation, else Unix nanoseconds.
type entry struct {
	Rule
	until int64
	used  atomic.Bool // looked up, or made, since rules were last forgotten
	hash  uint64
	key   string
}

func newEntry(key string, r Rule, until int64) *entry {
	e := &entry{Rule: r, until: until, hash: maphash.String(hashSeed, key), key: key}
	e.used.Store(true)
	return e
}

// use marks e as looked up. Most are: what processors share is only read then.
func (e *entry) use() {
	if !e.used.Load() {
		e.used.Store(true)
	}
}

func (e *entry) fresh(now int64) bool { return e != nil && (e.until == 0 || now < e.until) }

// hashSeed keeps peers from choosing keys that collide.
var hashSeed = maphash.MakeSeed()

const minSlots = 16

func newTable(keys int) *table {
	n := minSlots
	for n < 2*keys {
		n *= 2
	}
	return &table{slots: make([]atomic.Pointer[entry], n)}
}

// get returns the entry of key, nil if there is none.
func (t *table) get(key []byte) *entry {
	h := maphash.Bytes(hashSeed, key)
	mask := uint64(len(t.slots) - 1)
	for i := h; ; i++ {
		e := t.slots[i&mask].Load()
		if e == nil || e.hash == h && e.key == string(key) {
			return e
		}
	}
}

// put stores e, in place of the entry with the same key if there is one, and
// returns the table to use from now on.
func (t *table) put(e *entry) *table {
	if 2*(t.used+1) > len(t.slots) {
		t = t.rebuilt(2*t.used, func(*entry) bool { return true })
	}
	mask := uint64(len(t.slots) - 1)
	for i := e.hash; ; i++ {
		s := &t.slots[i&mask]
		switch old := s.Load(); {
		case old == nil:
			t.used++
		case old.hash != e.hash || old.key != e.key:
			continue
		}
		s.Store(e)
		return t
	}
}

// rebuilt returns a table with room for n keys and the entries to keep.
func (t *table) rebuilt(n int, keep func(*entry) bool) *table {
	fresh := newTable(n)
	for i := range t.slots {
		if e := t.slots[i].Load(); e != nil && keep(e) {
			fresh = fresh.put(e)
		}
	}
	return fresh
}
