package policy

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/hostabi"
)

const (
	forgetEvery = 10 * time.Second // rules that nobody has looked up since the last time, in a crowd

	// crowdedFor is how long a crowd lasts after the last key that found no room:
	// as long as a rule that nobody looks up may stay.
	crowdedFor = 2 * forgetEvery

	crowdBurst  = 64                    // keys that a policy is asked about at once in a crowd
	crowdRefill = 10 * time.Millisecond // and one more after each of these

	crowdWarnEvery = time.Minute // one line as often, at most
)

// room is the hostabi.MaxCachedKeys rules that a policy may have cached, over
// all of its views. When a key finds none left there is a crowd. It lasts until
// every key has found room for crowdedFor, and in it
//   - rules that nobody looked up are forgotten, but for those of keys that the policy
//     names, as long as these are few (keepsNamed). One that expired keeps its place
//     as others do, for the next answer: a key in use would lose it to a flood,
//   - new keys are asked about at a bounded rate, so that what a flood of them
//     finds free is not full again before others came by.
type room struct {
	mu    sync.Mutex
	taken int              // rules of all views, expired ones included
	gauge prometheus.Gauge // of them; nil: not counted

	crowded  atomic.Int64 // end of the crowd in Unix nanoseconds
	asked    gcra         // about new keys in a crowd
	sweeping atomic.Int64 // Unix nanoseconds of the next sweep
	warning  atomic.Int64 // and of the next line in the log
}

// isCrowded tells whether there is a crowd at Unix nanosecond t.
func (r *room) isCrowded(t int64) bool { return t < r.crowded.Load() }

// Crowded tells whether rules that nobody looks up are being forgotten: who
// remembers one that is in use looks it up now and then.
func (v *View) Crowded(now time.Time) bool { return v.policy.room.isCrowded(nanos(now)) }

// take takes the place of one more rule at Unix nanosecond t, if it may.
func (r *room) take(t int64) bool {
	if r.isCrowded(t) && !r.asked.allow(t, crowdBurst, crowdRefill) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken == hostabi.MaxCachedKeys {
		return false
	}
	r.count(1)
	return true
}

// give gives n places back.
func (r *room) give(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count(-n)
}

func (r *room) count(n int) {
	r.taken += n
	if r.gauge != nil {
		r.gauge.Add(float64(n))
	}
}

// used is how many places are taken.
func (r *room) used() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}

// counted sets the gauge that rules count in from now on; nil: none.
func (r *room) counted(g prometheus.Gauge) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.taken
	r.count(-n)
	r.gauge = g
	r.count(n)
}

// crowd notes a key that found no room.
func (p *Policy) crowd(now time.Time) {
	p.countUnasked()
	t := nanos(now)
	p.room.crowded.Store(t + int64(crowdedFor))
	if next := p.room.warning.Load(); t >= next && p.room.warning.CompareAndSwap(next, t+int64(crowdWarnEvery)) {
		p.report.crowd(p.room.used(), p.unasked.Load())
	}
	p.sweep(now)
}

// countUnasked notes a message whose key is answered natively for a bound.
func (p *Policy) countUnasked() {
	p.unasked.Add(1)
	if p.metrics != nil {
		p.series.Unasked.Inc()
	}
}

// sweep forgets, once per forgetEvery, those rules of every route that were not looked
// up since the last time.
func (p *Policy) sweep(now time.Time) {
	t := nanos(now)
	next := p.room.sweeping.Load()
	if t < next || !p.room.sweeping.CompareAndSwap(next, t+int64(forgetEvery)) {
		return
	}
	p.mu.Lock()
	views := slices.Collect(maps.Values(p.views))
	p.mu.Unlock()
	for _, v := range views {
		v.mu.Lock()
		if v.gone {
			v.mu.Unlock()
			continue
		}
		for d := range v.rules {
			old := v.rules[d].Load()
			kept := old.rebuilt(0, func(e *entry) bool {
				return e.used.Swap(false) || v.keepsNamed && p.named[e.key]
			})
			v.rules[d].Store(kept)
			p.room.give(old.used - kept.used)
		}
		v.mu.Unlock()
	}
}
