package wasmhost

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"weir/hostabi"
)

// code is a validated, rewritten and compiled module: everything that depends
// on the bytes and the engine only.
//
// Each code has a wazero.Runtime of its own, shared by all Modules loaded from
// the same bytes and counted by them. Why not one runtime per Module: a reload
// that leaves the bytes as they are finds them compiled, since the new
// generation is loaded before the old one is closed. Why not one per process:
// closing the runtime is then the proof that nothing of a replaced module is
// left, and a fault in wazero's store cannot join two policies.
type code struct {
	*facts
	key     codeKey
	hash    string
	runtime wazero.Runtime
	module  wazero.CompiledModule

	once sync.Once
	err  error
	refs int // guarded by codes
}

type codeKey struct {
	hash   [sha256.Size]byte
	engine string
}

// codes are the ones in use, by their bytes and engine.
var codes = struct {
	sync.Mutex
	m map[codeKey]*code
}{m: map[codeKey]*code{}}

// acquire returns the code of wasm on engine, made by the first caller, who is
// told, and shared by the others. Each success is followed by one release.
func acquire(ctx context.Context, engine string, wasm []byte) (c *code, compiled bool, err error) {
	if len(wasm) > hostabi.MaxModuleBytes {
		return nil, false, refuse("build it smaller: strip symbols, leave out what is not used", "module of %d bytes exceeds %d", len(wasm), hostabi.MaxModuleBytes)
	}
	key := codeKey{sha256.Sum256(wasm), engine}
	codes.Lock()
	c = codes.m[key]
	if c == nil {
		c = &code{key: key, hash: hex.EncodeToString(key.hash[:])}
		codes.m[key] = c
	}
	c.refs++
	codes.Unlock()

	c.once.Do(func() {
		c.err = c.compile(context.WithoutCancel(ctx), engine, wasm)
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
	if last && c.runtime != nil {
		_ = c.runtime.Close(context.Background()) // closes compiled code and host modules; has nothing to report for them
	}
}

func (c *code) compile(ctx context.Context, engine string, wasm []byte) error {
	var config wazero.RuntimeConfig
	switch engine {
	case Interpreter:
		config = wazero.NewRuntimeConfigInterpreter()
	case Compiler:
		config = wazero.NewRuntimeConfigCompiler()
	default:
		return refuse("use interpreter or compiler", "engine %q is unknown", engine)
	}
	facts, rewritten, err := prepare(wasm)
	if err != nil {
		return err
	}
	c.facts = facts
	if engine == Compiler {
		if err := facts.effort.refuse(); err != nil {
			return err
		}
	}
	// WithCloseOnContextDone stays off: wazero would start a goroutine in every
	// call, whatever the context, and check at loops only. The rewritten module
	// has checks of its own.
	c.runtime = wazero.NewRuntimeWithConfig(ctx, config.
		WithCoreFeatures(api.CoreFeaturesV2).
		WithMemoryLimitPages(hostabi.MaxMemoryPages).
		WithDebugInfoEnabled(false))
	if err := addHostModules(ctx, c.runtime); err != nil {
		return err
	}
	// With more than one worker the compiler looks at its context between
	// functions.
	ctx, cancel := context.WithTimeout(experimental.WithCompilationWorkers(ctx, 2), compileTimeout)
	defer cancel()
	c.module, err = c.runtime.CompileModule(ctx, rewritten)
	switch {
	case ctx.Err() != nil:
		return &LoadError{Stage: Compile, Reason: fmt.Sprintf("compiling takes longer than %v", compileTimeout), Remedy: `run it with engine = "interpreter"`, Err: ctx.Err()}
	case err != nil:
		return &LoadError{Stage: Compile, Reason: "the module is not valid WebAssembly 2.0: " + firstLine(err), Err: err}
	}
	return nil
}

// abiString is the guest's version as people write it. The export is asked when
// the first instance is made.
func (c *code) abiString() string {
	v := c.abi.Load()
	return fmt.Sprintf("%d.%d", v>>16, v&0xFFFF)
}
