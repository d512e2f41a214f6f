package wasmhost

import (
	"context"
	"time"

	"weir/hostabi/wasmhost/rewrite"
)

// A large module is run lean (docs/RATIONALE.md, "Why does a Go policy not take
// 60 MB?"). Most of what a Go guest consists of runs once, at its start, or
// never. So the host starts one instance of the whole module, in the
// interpreter, keeps an image of what it has become (image.go), and marks which
// functions are called from there on, by weir_configure and a rehearsal of every
// hook. Instances that serve begin as copies of the image, in code that has only
// those functions. The others are stubs. One that is called all the same ends
// the call, the host adds the function with all that it calls by name, and asks
// a new instance again, which is as good: hooks are pure and instances
// interchangeable (ABI.md §1).
const (
	leanFrom  = 256 << 10 // bytes of code that are worth it
	maxGrowth = 32        // times that code is added to; after that it is all there
)

// maxGrowthCompiled is the same for the Compiler, which is slower and whose code is
// small: a panic in a Go guest misses eight functions one after the other.
const maxGrowthCompiled = 1

// growthWait is how long a call waits for all code that is added for it. It is the
// host's work and not the guest's, so it is longer than a call may take: what the guest
// answers is worth more than its fallback, also on a machine that has no time.
const growthWait = 10 * time.Second

// growthRest is how long nothing is added after something could not be: what cannot
// be compiled in time takes a tenth of the compiler's at most.
const growthRest = 10 * compileTimeout

// write writes the module in another form.
func (c *code) write(ctx context.Context, f rewrite.Form) (rewritten []byte, err error) {
	laboriously(ctx, func() { rewritten, err = c.draft.Write(f) })
	return rewritten, asLoadError(err)
}

// lean compiles the module with the functions that are resident; nil: all.
func (c *code) lean(ctx context.Context, resident rewrite.Set, img *image) (*core, error) {
	f := rewrite.Form{Pages: uint32(img.size >> 16), Resident: resident}
	rewritten, err := c.write(ctx, f)
	if err != nil {
		return nil, err
	}
	return c.compile(ctx, c.key.engine, rewritten, f, img)
}

// grow adds function fn, which was missing in from, and what it calls by name,
// to the code that instances are made of.
func (c *code) grow(from *core, fn uint32) error {
	c.making.Lock()
	defer c.making.Unlock()
	if c.core.Load() != from {
		return nil // somebody has; if not this one, its absence shows again
	}
	if time.Now().Before(c.rested) {
		return c.stunted
	}
	var resident rewrite.Set
	most := maxGrowth
	if c.key.engine == Compiler {
		most = maxGrowthCompiled
	}
	if c.grown < most {
		resident = c.draft.Reach(from.form.Resident, fn)
	}
	k, err := c.lean(context.Background(), resident, c.image)
	if err != nil {
		c.stunted, c.rested = err, time.Now().Add(growthRest)
		return err
	}
	if resident != nil {
		c.known.miss(c.draft.Prints(), from.form.Resident, resident)
	}
	c.grown++
	c.put(k)
	return nil
}
