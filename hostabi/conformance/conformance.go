// Package conformance checks any policy module against ABI.md, by running it on
// the real host.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"weir/hostabi"
	"weir/hostabi/wasmhost"
)

// Run checks a module with one configuration, a JSON object, in both engines.
// Every breach is an error of t.
func Run(t *testing.T, wasm, config []byte) {
	t.Helper()
	for _, engine := range []string{wasmhost.Interpreter, wasmhost.Compiler} {
		for _, err := range Check(t.Context(), engine, wasm, config) {
			t.Errorf("%s: %v", engine, err)
		}
	}
}

const (
	patience   = 20 * time.Second // functional checks wait so long, whatever else the machine does
	attempts   = 20               // a time bound holds if one of so many calls keeps it
	loads      = 3                // likewise of so many starts
	leakCalls  = 4000             // calls of one hook that the leak check makes
	leakGrowth = 4 << 20          // bytes that memory may grow by meanwhile: 1 KiB a call
)

// Check is Run on one engine; it returns every breach.
func Check(ctx context.Context, engine string, wasm, config []byte) []error {
	c := &checker{ctx: ctx, options: wasmhost.Options{
		Name: "conformance", Wasm: wasm, Engine: engine, Instances: 2,
		Configure:   (&hostabi.ConfigureInput{Policy: "conformance", Config: config, HostMinor: hostabi.Minor}).AppendTo(nil),
		CallTimeout: patience, InitTimeout: patience, Rehearse: rehearse,
	}}
	m, err := wasmhost.Load(ctx, c.options) // exports, imports, version, buffer, equal shapes
	if err != nil {
		return []error{err}
	}
	defer m.Close()
	c.m = m
	if err := c.shape.Decode(m.Shape()); err != nil {
		return []error{fmt.Errorf("weir_configure: %w", err)}
	}
	c.checkStart()
	for h := hostabi.Classify; h < hostabi.NumHooks; h++ {
		if m.Has(h) {
			c.checkHook(h)
		}
	}
	c.checkFresh()
	return c.breaches
}

// checker runs the checks of one module on one engine.
type checker struct {
	ctx      context.Context
	options  wasmhost.Options
	m        *wasmhost.Module
	shape    hostabi.Shape
	answers  []answered
	breaches []error
}

// answered is a sample with the answer it got first.
type answered struct {
	sample
	out    string
	result hostabi.Result
}

func (c *checker) breach(format string, args ...any) {
	c.breaches = append(c.breaches, fmt.Errorf(format, args...))
}

// checkStart holds an instance's start to the 500 ms of ABI.md §5.
func (c *checker) checkStart() {
	o := c.options
	o.Instances = 1
	best := patience
	for range loads {
		start := time.Now() // the module is compiled already: c.m holds it
		m, err := wasmhost.Load(c.ctx, o)
		if err != nil {
			c.breach("a second load: %w", err)
			return
		}
		best = min(best, time.Since(start))
		m.Close()
	}
	if best > wasmhost.DefaultInitTimeout {
		c.breach("starting and configuring takes %v, allowed are %v", best, wasmhost.DefaultInitTimeout)
	}
}

// checkHook asks one hook everything there is to ask.
func (c *checker) checkHook(h hostabi.Hook) {
	samples := samplesOf(h, &c.shape)
	for _, s := range samples {
		out, r, err := c.m.Call(h, s.in, nil)
		if err != nil {
			c.breach("%s %s: %w", h, s.name, err)
			return // an instance is gone; what follows would say the same
		}
		c.checkAnswer(s, out, r)
		c.answers = append(c.answers, answered{s, string(out), r})
	}
	if !c.checkTime(h, samples[0]) {
		return // the rest would take for ever
	}
	c.checkAgain(h)
	c.checkStrange(h, samples[0])
	c.checkLeak(h, samples[0])
}

// rehearse asks what will be asked, as Weir does: without it the host would compile
// a large module anew for each function that turns out to be needed.
func rehearse(r *wasmhost.Rehearsal) {
	var shape hostabi.Shape
	if shape.Decode(r.Shape()) != nil {
		return
	}
	for h := hostabi.Classify; h < hostabi.NumHooks; h++ {
		if !r.Has(h) {
			continue
		}
		samples := samplesOf(h, &shape)
		for _, s := range samples {
			_, _, _ = r.Call(h, s.in, nil) // what comes of it is judged later
		}
		for _, in := range malformed(samples[0]) {
			_, _, _ = r.Call(h, in, nil)
		}
	}
}

// checkAnswer holds an answer to what its hook may say.
func (c *checker) checkAnswer(s sample, out []byte, r hostabi.Result) {
	switch r.Status() {
	case hostabi.StatusOK:
		if c.constant(s.hook) {
			c.breach("%s %s: answers, though the shape calls the hook constant", s.hook, s.name)
		}
		if err := valid(s, out, &c.shape); err != nil {
			c.breach("%s %s: %w", s.hook, s.name, err)
		}
	case hostabi.StatusNoOpinion:
	default:
		var why hostabi.Refusal
		if err := why.Decode(out); err != nil {
			c.breach("%s %s: status %d with a refusal that does not decode: %w", s.hook, s.name, r.Status(), err)
		} else {
			c.breach("%s %s: refused with status %d: %s", s.hook, s.name, r.Status(), why.Message)
		}
	}
}

func (c *checker) constant(h hostabi.Hook) bool {
	for _, k := range c.shape.Constant {
		if k == h {
			return true
		}
	}
	return false
}

// checkAgain asks everything twice more, backwards: with two instances that
// take turns, each sample meets both of them after another history.
func (c *checker) checkAgain(h hostabi.Hook) {
	for range 2 {
		for i := len(c.answers) - 1; i >= 0; i-- {
			if a := &c.answers[i]; a.hook == h && !c.same(c.m, a) {
				return
			}
		}
	}
}

// checkFresh asks everything once more of a module loaded anew.
func (c *checker) checkFresh() {
	m, err := wasmhost.Load(c.ctx, c.options)
	if err != nil {
		c.breach("a fresh load: %w", err)
		return
	}
	defer m.Close()
	if string(m.Shape()) != string(c.m.Shape()) {
		c.breach("weir_configure answers differently when loaded anew")
	}
	for i := range c.answers {
		if !c.same(m, &c.answers[i]) {
			return
		}
	}
}

func (c *checker) same(m *wasmhost.Module, a *answered) bool {
	out, r, err := m.Call(a.hook, a.in, nil)
	if err != nil {
		c.breach("%s %s, asked again: %w", a.hook, a.name, err)
		return false
	}
	if string(out) != a.out || r != a.result {
		c.breach("%s %s: not pure (ABI.md §1): first %#x % x, then %#x % x", a.hook, a.name, uint64(a.result), a.out, uint64(r), out)
		return false
	}
	return true
}

// checkTime holds a call to the 5 ms of ABI.md §5.
func (c *checker) checkTime(h hostabi.Hook, s sample) (ok bool) {
	best := patience
	for range attempts {
		start := time.Now()
		if _, _, err := c.m.Call(h, s.in, nil); err != nil {
			c.breach("%s %s: %w", h, s.name, err)
			return false
		}
		if best = min(best, time.Since(start)); best <= wasmhost.DefaultCallTimeout {
			return true
		}
	}
	c.breach("%s %s: a call takes %v, allowed are %v", h, s.name, best, wasmhost.DefaultCallTimeout)
	return false
}

// checkStrange shows a tag from a later minor, which has to be skipped, and
// messages that are cut off, which have to be survived.
func (c *checker) checkStrange(h hostabi.Hook, s sample) {
	first, r1, err1 := c.m.Call(h, s.in, nil)
	later, r2, err2 := c.m.Call(h, hostabi.AppendTLV(s.in[:len(s.in):len(s.in)], 0xFFF0, []byte("later")), nil)
	if err := errors.Join(err1, err2); err != nil {
		c.breach("%s with an unknown tag: %w", h, err)
		return
	}
	if string(first) != string(later) || r1 != r2 {
		c.breach("%s: an unknown tag changes the answer (ABI.md §6)", h)
	}
	for _, in := range malformed(s) {
		_, _, err := c.m.Call(h, in, nil)
		if f, ok := errors.AsType[*wasmhost.Fault](err); ok {
			c.breach("%s with malformed input % x: %w", h, in, f)
			return
		}
	}
}

// checkLeak asks the same often: what a call leaves behind must not fill the
// memory.
func (c *checker) checkLeak(h hostabi.Hook, s sample) {
	before := c.m.Info().GrownBytes
	var out []byte
	for range leakCalls {
		var err error
		if out, _, err = c.m.Call(h, s.in, out); err != nil {
			c.breach("%s %s, asked often: %w", h, s.name, err)
			return
		}
	}
	if grown := c.m.Info().GrownBytes - before; grown > leakGrowth {
		c.breach("%s: memory grows by %d bytes in %d calls, allowed are %d", h, grown, leakCalls, leakGrowth)
	}
}
