// Package wasmhost runs one policy module on wazero: it validates, loads,
// pools, calls, bounds and closes it (ABI.md §8).
//
// Guest code runs on the caller's goroutine and is ended there: Load rewrites
// the module so that it keeps asking the host whether its time is up (package
// rewrite), which costs no goroutine and no watchdog per call and also
// ends code that never loops.
package wasmhost

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
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
	maxInstances       = 8
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

// Module is a loaded policy: a fixed pool of interchangeable instances.
type Module struct {
	opts  Options
	code  *code
	shape []byte
	epoch time.Time // zero of the clock that deadlines are read on

	log, guestLog *logger

	// slots holds every instance that is idle. One slot that faulted is out
	// until it is replaced; while closing, an empty slot comes back as nil, so
	// Close has collected everything when it has received len(slots) times.
	slots    chan *instance
	urgent   chan *instance // takes one, past slots, to a classify call that waits
	breakers [hostabi.NumHooks]*breaker
	down     [hostabi.NumHooks]*Fault // answers while the hook's breaker is open

	done      chan struct{} // closed by Close
	closing   sync.Once
	healing   sync.WaitGroup // replacements in progress, and trimming
	replaceMu sync.Mutex     // held while a faulted instance is replaced, and after
	makeMu    sync.Mutex     // held while an instance is made

	spare    chan *instance // at most one, waiting to replace one that has grown
	renewing atomic.Bool    // it is being made
	growth   atomic.Int64   // bytes that an instance may grow by

	calls    atomic.Int64
	faults   atomic.Int64
	retired  atomic.Int64
	live     atomic.Int64 // instances that exist
	memBytes atomic.Int64 // of their linear memories
	grown    atomic.Int64 // bytes that those of all instances ever grew by after configure
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

var (
	errBreakerOpen = errors.New("not called after repeated faults")
	errClosed      = errors.New("the module is closed")
	errDiffers     = errors.New("weir_configure answers differently than at load")
)

// Shape is the output of weir_configure; nil if the module has no such hook or
// no opinion.
func (m *Module) Shape() []byte { return m.shape }

// Has says whether the module exports the hook.
func (m *Module) Has(h hostabi.Hook) bool { return m.code.Has[h] }

// Call asks the hook with the encoded input and returns its output appended to
// out[:0]. A module without the hook has no opinion. The error is a *Fault.
func (m *Module) Call(h hostabi.Hook, in, out []byte) ([]byte, hostabi.Result, error) {
	out = out[:0]
	if !m.code.Has[h] {
		return out, hostabi.MakeResult(0, hostabi.StatusNoOpinion, hostabi.CacheGeneration), nil
	}
	out, r, f := m.call(h, in, out, m.now())
	m.calls.Add(1)
	if f != nil {
		m.faults.Add(1)
		return out[:0], 0, f
	}
	return out, r, nil
}

func (m *Module) call(h hostabi.Hook, in, out []byte, start time.Duration) ([]byte, hostabi.Result, *Fault) {
	if len(in) > hostabi.MaxInput {
		return out, 0, m.fault(h, Input, fmt.Errorf("input of %d bytes exceeds %d", len(in), hostabi.MaxInput))
	}
	breaker := m.breakers[h]
	ok, trial := breaker.allow(m.epoch.Add(start))
	if !ok {
		return out, 0, m.down[h]
	}
	inst, err := m.take(h)
	if err != nil {
		breaker.cancel(trial)
		return out, 0, m.fault(h, Unavailable, err)
	}
	var r hostabi.Result
	kind := Trap
	call := func() (err error) {
		out, r, kind, err = inst.call(h, in, out, m.opts.CallTimeout)
		return err
	}
	err = m.contain(call)
	for err != nil && inst.absent > 0 {
		if inst, err = m.completed(inst, start); err != nil {
			m.healing.Go(m.heal) // as in discard
			f := m.fault(h, Unavailable, err)
			if _, late := errors.AsType[*LateError](err); late {
				breaker.cancel(trial)
			} else {
				m.failed(f, trial)
			}
			return out, 0, f
		}
		err = m.contain(call)
	}
	if err == nil {
		m.put(inst)
		breaker.success(trial)
		return out, r, nil
	}
	f := m.fault(h, kind, err)
	m.discard(inst, f, trial)
	return out, 0, f
}

// completed returns an instance that has the function that in missed, in its
// place. When all that a call which began at start missed takes very long, the
// last of it goes on without the caller.
func (m *Module) completed(in *instance, start time.Duration) (*instance, error) {
	grown := make(chan error, 1)
	m.healing.Go(func() { // as in discard
		grown <- m.contain(in.complete)
		m.trimLater()
	})
	limit := max(growthWait, wall(m.opts.CallTimeout))
	wait := time.NewTimer(start + limit - m.now())
	defer wait.Stop()
	select {
	case err := <-grown:
		if err != nil {
			return nil, err
		}
	case <-wait.C:
		return nil, &LateError{"what it had not called before was not compiled", limit}
	}
	return m.alike()
}

func (m *Module) fault(h hostabi.Hook, k Kind, err error) *Fault {
	return &Fault{Policy: m.opts.Name, Hook: h, Kind: k, Err: err}
}

// take waits for an idle instance, at most as long as a call may take. Messages of
// open tunnels wait for classify, of which there is a budget: it goes before what
// requests are many of.
func (m *Module) take(h hostabi.Hook) (*instance, error) {
	select {
	case in := <-m.slots:
		return m.taken(in)
	case <-m.done:
		return nil, errClosed
	default:
	}
	var urgent chan *instance
	if h == hostabi.Classify {
		urgent = m.urgent
	}
	limit := wall(m.opts.CallTimeout)
	wait := time.NewTimer(limit)
	defer wait.Stop()
	select {
	case in := <-m.slots:
		return m.taken(in)
	case in := <-urgent:
		return in, nil
	case <-m.done:
		return nil, errClosed
	case <-wait.C:
		return nil, &LateError{fmt.Sprintf("none of %d instances was free", cap(m.slots)), limit}
	}
}

// give makes in idle, or hands it to who waits and goes first.
func (m *Module) give(in *instance) {
	select {
	case m.urgent <- in:
	default:
		m.slots <- in
	}
}

// taken gives back what Close is waiting for.
func (m *Module) taken(in *instance) (*instance, error) {
	if in == nil {
		m.slots <- nil
		return nil, errClosed
	}
	return in, nil
}

// now is the time since the module was loaded, on the monotonic clock.
func (m *Module) now() time.Duration { return time.Since(m.epoch) }

// Info is what there is to know of a module while it serves.
type Info struct {
	Hash        string // SHA-256 of the file, hex
	Engine      string
	ABI         string // the version the guest was built for, "1.0"
	Instances   int    // that serve; fewer than the pool's size while one that faulted is replaced
	Calls       int64
	Faults      int64  // calls that produced no answer
	Retired     int64  // instances replaced because their memory had grown
	Breaker     string // "closed", "open" or "half-open": the worst of its hooks'
	MemoryBytes int64  // linear memory of all instances
	GrownBytes  int64  // that memory grew by in hooks, also of instances that are gone
}

// Info describes the module as it is now.
func (m *Module) Info() Info {
	return Info{
		Hash:        m.code.hash,
		Engine:      m.opts.Engine,
		ABI:         m.code.abiString(),
		Instances:   int(min(m.live.Load(), int64(cap(m.slots)))),
		Calls:       m.calls.Load(),
		Faults:      m.faults.Load(),
		Retired:     m.retired.Load(),
		Breaker:     m.breakerState(time.Now()),
		MemoryBytes: m.memBytes.Load(),
		GrownBytes:  m.grown.Load(),
	}
}

// breakerState is the worst state of a hook's breaker at now.
func (m *Module) breakerState(now time.Time) string {
	worst := "closed"
	for _, b := range m.breakers {
		worst = max(worst, b.state(now)) // the alphabet has them in this order: closed, half-open, open
	}
	return worst
}

// Close refuses further calls, waits for those in flight (each ends within 10
// times the call timeout), closes every instance and joins the replacements. The compiled
// code is freed with the last Module loaded from the same bytes.
func (m *Module) Close() {
	m.closing.Do(func() {
		close(m.done)
		for range cap(m.slots) {
			if in := <-m.slots; in != nil {
				in.close()
			}
		}
		m.healing.Wait()
		select {
		case in := <-m.spare:
			in.close()
		default:
		}
		m.code.release()
		m.closeLogs()
	})
}

// closeLogs tells what no line will tell any more.
func (m *Module) closeLogs() {
	m.log.close()
	m.guestLog.close()
}
