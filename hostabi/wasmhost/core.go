package wasmhost

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"weir/hostabi"
	"weir/hostabi/wasmhost/rewrite"
)

// compileTimeout is what the compiler may take for a module (ABI.md §8).
const compileTimeout = 30 * time.Second

// core is a compiled form of a module, in a wazero.Runtime of its own. Why not
// one per process: closing the runtime is then the proof that nothing of a
// replaced core is left, and a fault in wazero's store cannot join two policies.
type core struct {
	form    rewrite.Form
	image   *image // that instances begin as; nil: at the beginning
	runtime wazero.Runtime
	module  wazero.CompiledModule

	code *code
	refs int // guarded by code.mu: instances, and the code while they are made from it
}

// compile makes a core of a module that was rewritten.
func (c *code) compile(ctx context.Context, engine string, rewritten []byte, f rewrite.Form, img *image) (*core, error) {
	config := wazero.NewRuntimeConfigInterpreter()
	if engine == Compiler {
		config = wazero.NewRuntimeConfigCompiler()
	}
	// WithCloseOnContextDone stays off: wazero would start a goroutine in every
	// call, whatever the context, and check at loops only. The rewritten module
	// has checks of its own.
	k := &core{form: f, image: img, code: c, refs: 1}
	k.runtime = wazero.NewRuntimeWithConfig(ctx, config.
		WithCoreFeatures(api.CoreFeaturesV2).
		WithMemoryLimitPages(hostabi.MaxMemoryPages).
		WithDebugInfoEnabled(false))
	compiled := false
	defer func() {
		if !compiled { // also when it panics
			k.free()
		}
	}()
	if err := addHostModules(ctx, k.runtime); err != nil {
		return nil, err
	}
	// With more than one worker the compiler looks at its context between
	// functions.
	ctx, cancel := context.WithTimeout(experimental.WithCompilationWorkers(ctx, 2), compileTimeout)
	defer cancel()
	var err error
	laboriously(ctx, func() { k.module, err = k.runtime.CompileModule(ctx, rewritten) })
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		err = &LoadError{Stage: Compile, Reason: "given up before it was over", Err: ctx.Err()}
	case ctx.Err() != nil:
		err = &LoadError{Stage: Compile, Reason: fmt.Sprintf("compiling takes longer than %v", compileTimeout), Remedy: `run it with engine = "interpreter"`, Err: ctx.Err()}
	case err != nil:
		err = &LoadError{Stage: Compile, Reason: "the module is not valid WebAssembly 2.0: " + firstLine(err), Err: err}
	}
	if err != nil {
		return nil, err
	}
	compiled = true
	return k, nil
}

// free closes compiled code and host modules; the runtime has nothing to report
// for them.
func (k *core) free() { _ = k.runtime.Close(context.Background()) }

// use returns the core that new instances are made from, for one instance.
func (c *code) use() *core {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.core.Load()
	k.refs++
	return k
}

// release gives back one use, or the code's own; the last frees the core.
func (k *core) release() {
	k.code.mu.Lock()
	k.refs--
	last := k.refs == 0
	k.code.mu.Unlock()
	if last {
		k.free()
	}
}

// put makes k the core that new instances are made from. Those of the one
// before it live on.
func (c *code) put(k *core) {
	c.mu.Lock()
	old := c.core.Swap(k)
	c.mu.Unlock()
	if old != nil {
		old.release()
	}
}
