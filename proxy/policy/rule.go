package policy

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"weir/hostabi"
	"weir/proxy/jsonpeek"
)

// Rule is what a policy says about an event key. It is immutable.
type Rule struct {
	Class    hostabi.Class
	Unless   jsonpeek.Pointer // a message that has this field is Critical after all; zero: none
	Conflate jsonpeek.Pointer // the newest of equal values replaces the queued one; zero: none
	Priority uint8            // lower is shed first
	MaxSize  int64            // bytes; 0: only the route's ceiling applies
}

// critical is the native default: never shed, never conflated.
var critical = Rule{Class: hostabi.Critical}

// faultTTL is how long a fallback stands in for a failed call, so that a broken
// guest is not asked for every message.
const faultTTL = time.Second

// flight is a classify call under way; rule is set before done is closed.
type flight struct {
	done chan struct{}
	rule *Rule
}

type flightKey struct {
	direction hostabi.Direction
	key       string
}

// Rule returns the rule for messages with this event key. A cached rule costs
// one look-up; a key not seen before asks the guest, once for all who ask
// at the same time, if b allows it (nil: always). Otherwise, and when the
// guest fails, it is the native default.
func (v *View) Rule(d hostabi.Direction, key []byte, b *Budget) *Rule {
	if rule := v.Settled(d, key, b); rule != nil {
		return rule
	}
	return v.miss(d&1, string(key), 1)
}

// Settled is Rule where that asks no guest and waits for nobody, else nil: b allowed
// the question, which Rule asks, without b.
func (v *View) Settled(d hostabi.Direction, key []byte, b *Budget) *Rule {
	e := v.rules[d&1].Load().get(key)
	if e != nil && e.until == 0 {
		e.use()
		return &e.Rule
	}
	return v.settledSlow(e, key, b)
}

// Cached is Settled for a rule that lasts, else nil.
func (v *View) Cached(d hostabi.Direction, key []byte) *Rule {
	if e := v.rules[d&1].Load().get(key); e != nil && e.until == 0 {
		e.use()
		return &e.Rule
	}
	if !v.asks(hostabi.Classify) {
		return &critical
	}
	return nil
}

// settledSlow is Settled for a key without an entry that lasts.
func (v *View) settledSlow(e *entry, key []byte, b *Budget) *Rule {
	p := v.policy
	if !v.asks(hostabi.Classify) {
		return &critical
	}
	if len(key) > hostabi.MaxEventKey {
		p.countUnasked()
		return &critical
	}
	now := p.now()
	if e.fresh(nanos(now)) {
		e.use()
		return &e.Rule
	}
	if p.closed.Load() {
		if e != nil { // out of date, but nobody is left to ask
			return &e.Rule
		}
		return &critical
	}
	if b != nil && !b.Allow(now) {
		p.countUnasked()
		return &critical
	}
	return nil
}

// miss asks the guest for a rule, or waits for who is asking already.
func (v *View) miss(d hostabi.Direction, key string, tries int) *Rule {
	p := v.policy
	id := flightKey{d, key}
	now := p.now()
	if p.room.isCrowded(nanos(now)) {
		p.sweep(now)
	}
	v.mu.Lock()
	e := v.rules[d].Load().get([]byte(key))
	if e.fresh(nanos(now)) {
		v.mu.Unlock()
		return &e.Rule
	}
	if v.gone {
		v.mu.Unlock()
		if e != nil {
			return &e.Rule
		}
		return &critical
	}
	if f := v.flights[id]; f != nil {
		v.mu.Unlock()
		<-f.done // ends with the call, which the host bounds
		return f.rule
	}
	reserved := e == nil
	if reserved && !p.room.take(nanos(now)) {
		v.mu.Unlock()
		p.crowd(now)
		return &critical
	}
	f := &flight{done: make(chan struct{}), rule: &critical}
	v.flights[id] = f
	v.mu.Unlock()

	var answer *entry                               // nil: may not be kept
	defer func() { v.land(id, answer, reserved) }() // also when the call panics: nobody may wait for ever
	var rule Rule
	var until int64
	err := p.patiently(tries, func() (err error) {
		rule, until, err = p.classify(v.route, d, key)
		return err
	})
	if err != nil {
		until = nanos(p.now().Add(faultTTL))
	}
	kept := newEntry(key, rule, until)
	if until != expired {
		answer = kept
	}
	f.rule = &kept.Rule
	return f.rule
}

// land ends a flight: it caches the answer and wakes those who wait for it.
func (v *View) land(id flightKey, answer *entry, reserved bool) {
	p := v.policy
	v.mu.Lock()
	t := v.rules[id.direction].Load()
	if v.gone {
		answer = nil
	}
	if answer != nil && !reserved && t.get([]byte(id.key)) == nil {
		reserved = p.room.take(nanos(p.now())) // the old one was swept meanwhile
		if !reserved {
			answer = nil
		}
	}
	switch {
	case answer != nil:
		v.rules[id.direction].Store(t.put(answer))
	case reserved:
		p.room.give(1)
	}
	f := v.flights[id]
	delete(v.flights, id)
	v.mu.Unlock()
	close(f.done)
}

// expired is the until of an answer that may not be reused.
const expired = -1

// expiry turns a guest's cacheability into an until.
func (p *Policy) expiry(c hostabi.Cacheability) int64 {
	switch c {
	case hostabi.CacheGeneration:
		return 0
	case hostabi.CacheNo:
		return expired
	}
	return nanos(p.now().Add(time.Duration(c) * time.Second))
}

// classify asks the guest for one rule.
func (p *Policy) classify(route string, d hostabi.Direction, key string) (Rule, int64, error) {
	in := hostabi.ClassifyInput{Route: route, Direction: d, Key: []byte(key)}
	var out hostabi.Rule
	rule := critical
	a, err := p.ask(nil, hostabi.Classify, &in, &out, func() (err error) {
		rule, err = newRule(&out)
		return err
	})
	if err != nil || !a.opinion {
		rule = critical
	}
	return rule, p.expiry(a.cache), err
}

// newRule checks a policy's rule and compiles its pointers.
func newRule(out *hostabi.Rule) (r Rule, err error) {
	r = Rule{Class: out.Class, Priority: out.Priority, MaxSize: int64(min(out.MaxSize, math.MaxInt64))}
	if out.Unless != "" {
		if r.Unless, err = jsonpeek.Compile(out.Unless); err != nil {
			return critical, fmt.Errorf("rule's unless: %w", err)
		}
	}
	if out.Conflate != "" {
		if r.Conflate, err = jsonpeek.Compile(out.Conflate); err != nil {
			return critical, fmt.Errorf("rule's conflate: %w", err)
		}
	}
	return r, nil
}

// ruleTables are the rules of both directions.
type ruleTables [2]atomic.Pointer[table]
