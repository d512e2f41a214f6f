package wasmhost

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"weir/hostabi"
)

// Engines a module can run on.
const (
	Interpreter = "interpreter"
	Compiler    = "compiler"
)

// Defaults of Options.
const (
	DefaultCallTimeout = 5 * time.Millisecond
	DefaultInitTimeout = 500 * time.Millisecond
	maxInstances       = 8 // of one module, on a machine with as many processors or more
)

// Options describe one policy module.
type Options struct {
	Name      string // the [policy.NAME] table, for messages
	Wasm      []byte // the module file
	Engine    string // Interpreter or Compiler; default Interpreter
	Configure []byte // encoded hostabi.ConfigureInput
	// Log receives the guest's log lines and the host's remarks about it, at
	// level "debug", "info", "warn" or "error", from several goroutines; nil
	// discards them. It is called at a bounded rate.
	Log       func(level, msg string)
	Instances int // in the pool; 0: one for each processor, at most 8
	// Panic is told of a panic in the host itself, which has become a fault; nil:
	// Log is.
	Panic func(v any, stack []byte)
	// Rehearse asks an instance as it will be asked, before the module serves; may
	// be nil. It is called only for a large module whose bytes are not yet in use.
	Rehearse func(*Rehearsal)
	// Background has the module checked and compiled while others serve, who come
	// first: on Linux in threads that are nicer by 10, but for the Compiler's own.
	Background bool
	// CallTimeout is what one call may execute, InitTimeout what start, _initialize
	// and weir_configure may together; 0: 5 ms and 500 ms. By the wall clock each
	// may take 10 times as long, and so may the wait for an instance that is free.
	CallTimeout, InitTimeout time.Duration

	leanFrom int       // bytes of code from which a module is run lean; 0: leanFrom
	known    *familiar // nil: known
}

// processors is how many Go was given; a program may raise GOMAXPROCS above it.
var processors = runtime.GOMAXPROCS(0)

// Load validates o.Wasm, compiles it, fills the pool, and configures every
// instance. Its errors are *LoadError, or ctx's.
func Load(ctx context.Context, o Options) (*Module, error) {
	m := newModule(o)
	if o.Background {
		ctx = withBackground(ctx)
	}
	if err := m.load(ctx); err != nil {
		m.closeLogs()
		if p, ok := errors.AsType[panicError](err); ok {
			err = &LoadError{Stage: Compile, Reason: p.Error(), Remedy: "this is a fault of Weir's: report it with the stack that the log has", Err: p}
		}
		if le, ok := errors.AsType[*LoadError](err); ok {
			le.Policy = o.Name
		}
		return nil, err
	}
	return m, nil
}

// newModule is a module that is to be loaded.
func newModule(o Options) *Module {
	o.Engine = cmp.Or(o.Engine, Interpreter)
	o.CallTimeout = cmp.Or(o.CallTimeout, DefaultCallTimeout)
	o.InitTimeout = cmp.Or(o.InitTimeout, DefaultInitTimeout)
	o.Instances = cmp.Or(o.Instances, min(processors, maxInstances))
	o.leanFrom = cmp.Or(o.leanFrom, leanFrom)
	o.known = cmp.Or(o.known, known)
	m := &Module{
		opts:   o,
		epoch:  time.Now(),
		slots:  make(chan *instance, o.Instances),
		urgent: make(chan *instance),
		spare:  make(chan *instance, 1),
		done:   make(chan struct{}),
	}
	for h := range m.breakers {
		m.breakers[h] = newBreaker()
	}
	m.growth.Store(growthFirst)
	m.log = newLogger(o.Log, m.now)
	m.guestLog = newLogger(o.Log, m.now)
	return m
}

func (m *Module) load(ctx context.Context) (err error) {
	var compiled bool
	if m.code, compiled, err = acquire(ctx, m); err != nil {
		return err
	}
	if err := m.contain(func() error { return m.fill(ctx) }); err != nil {
		for range len(m.slots) {
			(<-m.slots).close()
		}
		m.code.release()
		return err
	}
	if compiled && len(m.opts.Wasm) >= trimFrom {
		m.trimLater()
	}
	m.opts.Wasm = nil // the engine has its own
	return nil
}

// fill rehearses the module, if it is to be, and makes every instance.
func (m *Module) fill(ctx context.Context) error {
	if m.code.draft != nil {
		if err := m.code.rehearse(ctx, m); err != nil {
			return err
		}
	}
	for _, name := range m.code.Unknown {
		m.log.say("warn", fmt.Sprintf("the module exports %s, which this host (ABI %d.%d) does not know and never calls", name, hostabi.Major, hostabi.Minor))
	}
	for h := range hostabi.Hook(hostabi.NumHooks) {
		m.down[h] = &Fault{Policy: m.opts.Name, Hook: h, Kind: Unavailable, Err: errBreakerOpen}
	}
	for n := range cap(m.slots) {
		if err := ctx.Err(); err != nil {
			return err
		}
		in, shape, err := makeInstance(m)
		if err != nil {
			return err
		}
		m.slots <- in
		if err := m.agree(n, shape); err != nil {
			return err
		}
	}
	return nil
}

// agree holds the answer of weir_configure of instance n against the first's.
func (m *Module) agree(n int, shape []byte) error {
	if n == 0 {
		m.shape = shape
		return nil
	}
	if bytes.Equal(m.shape, shape) {
		return nil
	}
	return &LoadError{
		Stage:  Configure,
		Reason: "weir_configure answered two instances differently",
		Remedy: "hooks must be pure: same configuration and input, same answer; look for map iteration, time or randomness in the answer",
	}
}
