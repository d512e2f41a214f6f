package wasmhost

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"weir/hostabi"
)

// instance is one guest with its memory. One goroutine at a time uses it.
type instance struct {
	m      *Module
	core   *core // that it runs on
	module api.Module
	memory api.Memory
	linear linear // what memory consists of
	// ctx carries the instance to the host functions; made once, so that a call
	// allocates nothing.
	ctx    context.Context
	hooks  [hostabi.NumHooks]api.Function
	region uint32 // where inputs are written and outputs read
	stack  [2]uint64
	bytes  int64 // of linear memory, as counted in m.memBytes

	settled int64 // of bytes, after configure; 0 before
	calls   int   // of hooks since then

	time   allowance
	late   bool // its time was up
	absent int  // the function it called that is not there, counted from 1
	broken bool // a call failed: it is not used again
	quiet  bool // what it logs is for nobody
	world  world
}

// world is what the guest sees of time, chance and the standard streams: the
// same for every instance.
type world struct {
	clock  uint64 // nanoseconds; advances when read
	random *rand.ChaCha8
	line   []byte // of standard output or error, not yet complete
}

type instanceKey struct{}

// of returns the instance a host function was called by.
func of(ctx context.Context) *instance { return ctx.Value(instanceKey{}).(*instance) }

// log passes on what the guest logs.
func (in *instance) log(level string, line []byte) {
	if !in.quiet {
		in.m.guestLog.line(level, line)
	}
}

// shortCall is how long a hook may take that keeps its stack. That stays as large as
// the deepest call made it, up to 100 MB, and nothing counts it. In this time it grows
// to a few MB, and compared with it another stack costs nothing. By the clock: of what
// the engine takes to grow a stack little is spent by the guest (maxStep).
const shortCall = time.Millisecond

// maxRoom is what the interpreter's stack may have room for behind what is on it,
// in numbers of 8 bytes. A stack grows by a quarter when it is full, and stays so
// while the call lasts, so this is one of 16 to 80 MiB. People's recursions take
// well below 1 MiB. The compiler bounds its stacks by itself.
const maxRoom = 2 << 20

// errStack ends a guest with a larger one.
var errStack = errors.New("stack overflow: it takes more than 16 MiB")

// errAbsent ends a guest that called a function whose code is not there.
var errAbsent = errors.New("a function is missing")

// makeInstance makes, initialises and configures one instance, all within the
// init timeout, and returns the output of weir_configure. What adding functions
// takes meanwhile does not count.
func makeInstance(m *Module) (*instance, []byte, error) {
	for {
		in := newInstance(m, m.code.use())
		shape, err := in.begin()
		if err == nil {
			return in, shape, nil
		}
		if in.absent == 0 {
			in.close()
			return nil, nil, err
		}
		if err := in.complete(); err != nil {
			return nil, nil, err
		}
	}
}

// begin starts the guest and configures it. A panic closes it.
func (in *instance) begin() (shape []byte, err error) {
	panics := true
	defer func() {
		if panics {
			in.close()
		}
	}()
	if err = in.start(); err == nil {
		shape, err = in.settle()
	}
	panics = false
	return shape, err
}

// newInstance is an instance of k, which it gives back when it is closed, before
// its guest exists.
func newInstance(m *Module, k *core) *instance {
	in := &instance{m: m, core: k, linear: linear{image: k.image}, world: world{random: rand.NewChaCha8([32]byte{})}}
	in.ctx = context.WithValue(context.Background(), instanceKey{}, in)
	m.live.Add(1)
	return in
}

// start makes the guest, at its beginning or as the image that its core has.
func (in *instance) start() (err error) {
	in.arm(in.m.opts.InitTimeout)
	in.module, err = in.core.runtime.InstantiateModule(experimental.WithMemoryAllocator(in.ctx, &in.linear), in.core.module,
		wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return in.startError("the module does not start", err)
	}
	in.memory = in.module.Memory() // exported: rewrite.Prepare has checked
	for h := range hostabi.Hook(hostabi.NumHooks) {
		if in.m.code.Has[h] {
			in.hooks[h] = in.module.ExportedFunction(h.Export())
		}
	}
	if in.core.image == nil {
		return in.initialize()
	}
	if in.linear.err != nil {
		return in.startError("its image cannot be read", in.linear.err)
	}
	in.become(in.core.image)
	return nil
}

// settle configures the guest in what is left of the init timeout.
func (in *instance) settle() (shape []byte, err error) {
	if in.m.code.Has[hostabi.Configure] {
		if shape, err = in.configure(); err != nil {
			return nil, err
		}
	}
	in.measure()
	in.settled = in.bytes
	return shape, nil
}

// complete closes an instance that missed a function, and adds it to the code.
func (in *instance) complete() error {
	in.close()
	if err := in.m.code.grow(in.core, uint32(in.absent-1)); err != nil {
		return &LoadError{Stage: Compile, Reason: "a function cannot be added: " + firstLine(err), Err: err}
	}
	in.m.log.say("debug", fmt.Sprintf("function %d was called for the first time: it is compiled now", in.absent-1))
	return nil
}

// initialize runs _initialize, weir_abi and weir_buffer.
func (in *instance) initialize() error {
	if f := in.module.ExportedFunction(hostabi.ExportInitialize); f != nil {
		if _, err := f.Call(in.ctx); err != nil {
			return in.startError(hostabi.ExportInitialize, err)
		}
	}
	v, err := in.module.ExportedFunction(hostabi.ExportABI).Call(in.ctx)
	if err != nil {
		return in.startError(hostabi.ExportABI, err)
	}
	abi := uint32(v[0])
	if abi>>16 != hostabi.Major {
		return &LoadError{
			Stage:  Instantiate,
			Reason: fmt.Sprintf("the module was built for ABI %d.%d, this host speaks %d.%d", abi>>16, abi&0xFFFF, hostabi.Major, hostabi.Minor),
			Remedy: fmt.Sprintf("build it against the SDK of ABI %d, or run a Weir that speaks ABI %d", hostabi.Major, abi>>16),
		}
	}
	in.m.code.abi.Store(abi)
	v, err = in.module.ExportedFunction(hostabi.ExportBuffer).Call(in.ctx, hostabi.MaxInput, hostabi.MaxOutput)
	if err != nil {
		return in.startError(hostabi.ExportBuffer, err)
	}
	in.region = uint32(v[0])
	if end := uint64(in.region) + max(hostabi.MaxInput, hostabi.MaxOutput); in.region == 0 || end > uint64(in.memory.Size()) {
		return &LoadError{
			Stage:  Instantiate,
			Reason: fmt.Sprintf("weir_buffer(%d, %d) returned offset %d, whose region ends at %d in a memory of %d bytes", hostabi.MaxInput, hostabi.MaxOutput, in.region, end, in.memory.Size()),
			Remedy: "return the offset, not 0, of a region as large as the larger of both arguments",
		}
	}
	return nil
}

// configure runs weir_configure.
func (in *instance) configure() ([]byte, error) {
	out, r, _, err := in.run(hostabi.Configure, in.m.opts.Configure, nil)
	switch {
	case err != nil:
		return nil, &LoadError{Stage: Configure, Reason: "weir_configure: " + firstLine(err), Remedy: in.remedy(err), Err: err}
	case r.Status() == hostabi.StatusOK:
		return out, nil
	case r.Status() == hostabi.StatusNoOpinion:
		return nil, nil
	}
	var why hostabi.Refusal
	reason := fmt.Sprintf("the policy refuses its configuration (status %d)", r.Status())
	if why.Decode(out) == nil && why.Message != "" {
		reason = "the policy refuses its configuration: " + printable([]byte(why.Message))
	}
	return nil, &LoadError{Stage: Configure, Reason: reason, Remedy: "correct its config table"}
}

func (in *instance) startError(what string, err error) *LoadError {
	return &LoadError{Stage: Instantiate, Reason: what + ": " + firstLine(err), Remedy: in.remedy(err), Err: err}
}

func (in *instance) remedy(err error) string {
	if in.late {
		return fmt.Sprintf("start, _initialize and weir_configure have %v of execution together; do less at start", in.m.opts.InitTimeout)
	}
	return trapRemedy(err)
}

// call runs a hook within timeout.
func (in *instance) call(h hostabi.Hook, input, out []byte, timeout time.Duration) ([]byte, hostabi.Result, Kind, error) {
	in.arm(timeout)
	in.calls++
	return in.run(h, input, out)
}

// run runs a hook within the time that is left and appends its output to out.
func (in *instance) run(h hostabi.Hook, input, out []byte) ([]byte, hostabi.Result, Kind, error) {
	if !in.memory.Write(in.region, input) {
		return out, 0, Trap, fmt.Errorf("input of %d bytes does not fit at offset %d", len(input), in.region)
	}
	in.stack[0] = uint64(len(input))
	if err := in.hooks[h].CallWithStack(in.ctx, in.stack[:1]); err != nil {
		in.broken = true
		if in.late {
			return out, 0, Timeout, err
		}
		return out, 0, Trap, err
	}
	r := hostabi.Result(in.stack[0])
	in.measure()
	if in.m.now()-in.time.began > shortCall {
		in.hooks[h] = in.module.ExportedFunction(h.Export())
	}
	if r.Status() == hostabi.StatusNoOpinion {
		return out, r, "", nil // whatever output there is does not count (ABI.md §5.2)
	}
	if r.Len() > hostabi.MaxOutput {
		return out, 0, Output, fmt.Errorf("output of %d bytes exceeds %d", r.Len(), hostabi.MaxOutput)
	}
	if s := r.Status(); s > hostabi.StatusUnsupported && s < hostabi.StatusGuest {
		return out, 0, Output, fmt.Errorf("status %d is reserved; a guest's own begin at %d", s, hostabi.StatusGuest)
	}
	view, ok := in.memory.Read(in.region, r.Len())
	if !ok {
		return out, 0, Output, fmt.Errorf("output of %d bytes at offset %d lies outside memory", r.Len(), in.region)
	}
	return append(out, view...), r, "", nil
}

// arm gives the guest timeout to execute.
func (in *instance) arm(timeout time.Duration) { in.time = newAllowance(timeout, in.m.now()) }

// check ends the guest when its time is up. Host functions call it; wazero turns
// the panic into the call's error.
func (in *instance) check() {
	if !in.time.spend(in.m.now()) {
		in.late = true
		panic(in.time.err())
	}
}

// measure keeps the module's counts of memory.
func (in *instance) measure() {
	if n := int64(in.memory.Size()); n != in.bytes {
		in.m.memBytes.Add(n - in.bytes)
		if in.settled > 0 {
			in.m.grown.Add(n - in.bytes)
		}
		in.bytes = n
	}
}

// close frees the instance.
func (in *instance) close() {
	if in.module != nil {
		_ = in.module.Close(in.ctx) // has nothing to report: no files are open
	}
	in.linear.Free()
	in.core.release()
	in.m.memBytes.Add(-in.bytes)
	in.m.live.Add(-1)
}

// firstLine is an error without the guest's stack and the engine's remarks.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return strings.TrimSuffix(line, " (recovered by wazero)")
}
