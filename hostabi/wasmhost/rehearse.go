package wasmhost

import (
	"context"
	"errors"

	"weir/hostabi"
	"weir/hostabi/wasmhost/rewrite"
)

// rehearse makes the core of a module that is run lean, if nobody has.
func (c *code) rehearse(ctx context.Context, m *Module) error {
	c.making.Lock()
	defer c.making.Unlock()
	if c.core.Load() != nil {
		return nil
	}
	img, started, used, err := c.perform(ctx, m)
	if errors.Is(err, errAbsent) { // it only looked like those before it
		if c.whole, err = c.write(ctx, rewrite.Form{Marks: true}); err != nil {
			return err
		}
		c.guessed = false
		img, started, used, err = c.perform(ctx, m)
	}
	if err != nil {
		return err
	}
	c.known.add(c.draft.Prints(), started, used)
	c.known.expect(c.draft.Prints(), used)
	k, err := c.lean(ctx, used, img)
	if err != nil {
		img.free()
		return err
	}
	c.image, c.whole = img, nil
	c.put(k)
	c.draft.Begun()
	return nil
}

// perform compiles the module to be rehearsed, starts an instance, takes its
// image, and returns which functions were called until then and which are when
// it is configured and asked as Options.Rehearse asks. The error is errAbsent
// when one of them is missing.
func (c *code) perform(ctx context.Context, m *Module) (img *image, started, used rewrite.Set, err error) {
	whole, err := c.compile(ctx, Interpreter, c.whole, rewrite.Form{Marks: true}, nil)
	if err != nil {
		return nil, nil, nil, err
	}
	in := newInstance(m, whole) // which it gives back
	defer in.close()
	defer func() {
		if in.absent > 0 {
			err = errAbsent
		}
		if err != nil {
			img.free()
		}
	}()
	if err := in.start(); err != nil {
		return nil, nil, nil, err
	}
	img = in.picture()
	started = in.marks()
	shape, err := in.settle()
	if err != nil {
		return img, nil, nil, err
	}
	if m.opts.Rehearse != nil {
		in.quiet = true
		m.opts.Rehearse(&Rehearsal{in, shape})
	}
	return img, started, in.marks(), nil
}

// marks returns the functions that were called since it was asked last.
func (in *instance) marks() (called rewrite.Set) {
	for n := range in.core.code.draft.Marks() {
		g := in.global(rewrite.MarkName, n)
		called = append(called, g.Get())
		g.Set(0)
	}
	return called
}

// Rehearsal is an instance that is asked before the module serves, so that the
// host learns which of its code is needed. What it answers decides nothing.
type Rehearsal struct {
	in    *instance
	shape []byte
}

var errOver = errors.New("the rehearsal ended with a fault")

// Shape is the output of weir_configure.
func (r *Rehearsal) Shape() []byte { return r.shape }

// Has says whether the module exports the hook.
func (r *Rehearsal) Has(h hostabi.Hook) bool { return r.in.m.code.Has[h] }

// Call asks the hook as Module.Call does. After a fault there is no other call.
func (r *Rehearsal) Call(h hostabi.Hook, in, out []byte) ([]byte, hostabi.Result, error) {
	out = out[:0]
	m := r.in.m
	switch {
	case !m.code.Has[h]:
		return out, hostabi.MakeResult(0, hostabi.StatusNoOpinion, hostabi.CacheGeneration), nil
	case r.in.broken:
		return out, 0, m.fault(h, Unavailable, errOver)
	case len(in) > hostabi.MaxInput:
		return out, 0, m.fault(h, Input, errOver)
	}
	out, result, kind, err := r.in.call(h, in, out, m.opts.CallTimeout)
	if err != nil {
		return out, 0, m.fault(h, kind, err)
	}
	return out, result, nil
}

// Ask asks the hook as Module.Ask does.
func (r *Rehearsal) Ask(h hostabi.Hook, who Caller) ([]byte, hostabi.Result, error) {
	in, out := who.Input()
	return r.Call(h, in, out)
}

// Info is empty: nothing of a rehearsal counts.
func (r *Rehearsal) Info() Info { return Info{} }

// Close does nothing: the host ends the rehearsal.
func (r *Rehearsal) Close() {}
