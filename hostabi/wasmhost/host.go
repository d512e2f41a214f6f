package wasmhost

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"weir/hostabi"
	"weir/hostabi/wasmhost/rewrite"
	"weir/hostabi/wasmhost/wasm"
)

// hostFunction is one import that guests may use. It runs on the guest's
// goroutine, stays within the guest's memory, and never waits.
type hostFunction struct {
	wasm.Signature
	call func(in *instance, memory api.Memory, stack []uint64)
}

// hostFunctions are all imports that guests may use, by module and name
// (ABI.md §4).
var hostFunctions = map[string]map[string]hostFunction{
	hostabi.ImportModule: {hostabi.ImportLog: {wasm.Sig("iii", ""), guestLog}},
	wasm.WASI:            wasiFunctions,
}

// importable is the signature of a function that guests may import.
func importable(module, name string) (wasm.Signature, bool) {
	f, ok := hostFunctions[module][name]
	return f.Signature, ok
}

// addHostModules makes the imports, and what rewritten code calls, known to a runtime.
func addHostModules(ctx context.Context, r wazero.Runtime) error {
	for _, module := range slices.Sorted(maps.Keys(hostFunctions)) {
		b := r.NewHostModuleBuilder(module)
		for name, f := range hostFunctions[module] {
			b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(
				func(ctx context.Context, guest api.Module, stack []uint64) {
					in := of(ctx)
					in.check() // what the host does for a guest is the guest's time
					f.call(in, guest.Memory(), stack)
				}), apiTypes(f.Params), apiTypes(f.Results)).Export(name)
		}
		if _, err := b.Instantiate(ctx); err != nil {
			return fmt.Errorf("host module %s: %w", module, err)
		}
	}
	_, err := r.NewHostModuleBuilder(rewrite.HostModule).NewFunctionBuilder().
		WithGoFunction(api.GoFunc(func(ctx context.Context, stack []uint64) {
			of(ctx).check()
			if cap(stack) > maxRoom { // it ends where the interpreter's stack does
				panic(errStack)
			}
		}), nil, nil).
		Export(rewrite.Checkpoint).NewFunctionBuilder().
		WithGoFunction(api.GoFunc(func(ctx context.Context, stack []uint64) {
			of(ctx).absent = int(uint32(stack[0])) + 1
			panic(errAbsent)
		}), []api.ValueType{api.ValueTypeI32}, nil).
		Export(rewrite.Missing).Instantiate(ctx)
	return err
}

func apiTypes(types string) []api.ValueType { return []api.ValueType(types) }

// guestLog is weir_v1.log(level, ptr, len).
func guestLog(in *instance, memory api.Memory, stack []uint64) {
	line, ok := memory.Read(uint32(stack[1]), uint32(stack[2]))
	if !ok {
		return // ABI.md §4: the line is dropped
	}
	level := "error"
	if l := uint32(stack[0]); l < 3 {
		level = [...]string{"debug", "info", "warn"}[l]
	}
	in.log(level, line)
}
