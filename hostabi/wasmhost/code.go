package wasmhost

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"weir/hostabi"
	"weir/hostabi/wasmhost/rewrite"
)

// code is a validated and compiled module: everything that depends on the bytes
// and the engine only.
//
// All Modules loaded from the same bytes share it and are counted by it: a
// reload that leaves the bytes as they are finds them compiled, since the new
// generation is loaded before the old one is closed.
type code struct {
	rewrite.Facts
	abi  atomic.Uint32 // what weir_abi returned
	key  codeKey
	hash string

	once sync.Once
	err  error
	refs int // guarded by codes

	core atomic.Pointer[core] // that instances are made from; nil until the module was rehearsed
	mu   sync.Mutex           // guards the cores' counts

	// Of a module that is run lean (lean.go).
	known  *familiar
	draft  *rewrite.Draft
	making sync.Mutex // held while a core is made
	whole  []byte     // the module to rehearse; guarded by making, as is what follows
	image  *image
	grown  int // how often functions were added

	stunted error     // why that was not possible last
	rested  time.Time // when it is tried again

	guessed bool // whole has only what looks familiar
}

type codeKey struct {
	hash     [sha256.Size]byte
	engine   string
	leanFrom int
}

// codes are the ones in use, by their bytes and engine.
var codes = struct {
	sync.Mutex
	m map[codeKey]*code
}{m: map[codeKey]*code{}}

// acquire returns the code of m's module, made by the first caller, who is told,
// and shared by the others. Each success is followed by one release.
func acquire(ctx context.Context, m *Module) (c *code, compiled bool, err error) {
	o := &m.opts
	if len(o.Wasm) > hostabi.MaxModuleBytes {
		return nil, false, refuse("build it smaller: strip symbols, leave out what is not used", "module of %d bytes exceeds %d", len(o.Wasm), hostabi.MaxModuleBytes)
	}
	key := codeKey{sha256.Sum256(o.Wasm), o.Engine, o.leanFrom}
	codes.Lock()
	c = codes.m[key]
	if c == nil {
		c = &code{key: key, hash: hex.EncodeToString(key.hash[:]), known: o.known}
		codes.m[key] = c
	}
	c.refs++
	codes.Unlock()

	c.once.Do(func() {
		c.err = m.contain(func() error { return c.make(context.WithoutCancel(ctx), o.Wasm) })
		compiled = true
	})
	if c.err != nil {
		c.release()
		if le, ok := c.err.(*LoadError); ok {
			own := *le // the caller writes its name into it
			return nil, false, &own
		}
		return nil, false, c.err
	}
	return c, compiled, nil
}

// release gives back one acquire; the last frees the code.
func (c *code) release() {
	codes.Lock()
	c.refs--
	last := c.refs == 0
	if last {
		delete(codes.m, c.key)
	}
	codes.Unlock()
	if !last {
		return
	}
	if k := c.core.Load(); k != nil {
		k.release()
	}
	c.image.free()
}

// make validates the module and compiles it, unless it is to be rehearsed first.
func (c *code) make(ctx context.Context, wasm []byte) error {
	if c.key.engine != Interpreter && c.key.engine != Compiler {
		return refuse("use interpreter or compiler", "engine %q is unknown", c.key.engine)
	}
	var d *rewrite.Draft
	var f rewrite.Form
	var rewritten []byte
	var err error
	laboriously(ctx, func() { d, f, rewritten, err = c.prepare(wasm) })
	if err != nil {
		return asLoadError(err)
	}
	c.Facts = d.Facts
	if f.Marks {
		c.draft, c.whole, c.guessed = d, rewritten, f.Familiar != nil
		return nil
	}
	k, err := c.compile(ctx, c.key.engine, rewritten, f, nil)
	if err != nil {
		return err
	}
	c.put(k)
	return nil
}

// prepare checks the module and writes it in the form that is compiled first.
func (c *code) prepare(wasm []byte) (d *rewrite.Draft, f rewrite.Form, rewritten []byte, err error) {
	if d, err = rewrite.Prepare(wasm, importable); err != nil {
		return nil, f, nil, err
	}
	if d.WorthLean(c.key.leanFrom) {
		f = rewrite.Form{Marks: true, Familiar: c.known.get()}
	}
	rewritten, err = d.Write(f)
	if err == nil && f.Marks && !d.WorthLean(c.key.leanFrom) {
		f = rewrite.Form{}
		rewritten, err = d.Write(f)
	}
	if err == nil && c.key.engine == Compiler {
		err = d.Compilable()
	}
	return d, f, rewritten, err
}

// abiString is the guest's version as people write it. The export is asked when
// the first instance is made.
func (c *code) abiString() string {
	v := c.abi.Load()
	return fmt.Sprintf("%d.%d", v>>16, v&0xFFFF)
}
