//go:build wasip1

package sdk

import (
	"unsafe"

	"weir/hostabi"
)

// region takes the input of every call and then its output (ABI.md §5.1). Go's
// collector does not move it.
var region struct {
	bytes   []byte
	in, out int // bytes of it that are input and output
}

var guest caller

// A collection takes 12 ms and more in the interpreter, where a call has 5. The
// SDK itself leaves no garbage, so none is run before most of the memory is
// used: then a compiled guest collects in time, and an interpreted one may be
// late once and is replaced by a fresh one.
func init() {
	setGCPercent(-1)
	setMemoryLimit(hostabi.MaxMemoryPages << 16 * 3 / 4)
}

// What runtime/debug exports, without that package, which brings os and fmt.

//go:linkname setGCPercent runtime/debug.setGCPercent
func setGCPercent(int32) int32

//go:linkname setMemoryLimit runtime/debug.setMemoryLimit
func setMemoryLimit(int64) int64

//go:wasmexport weir_abi
func abi() uint32 { return hostabi.Version }

//go:wasmexport weir_buffer
func buffer(inCap, outCap uint32) uint32 {
	region.in, region.out = int(inCap), int(outCap)
	guest.scratch = make([]byte, 0, outCap)
	region.bytes = make([]byte, max(inCap, outCap))
	return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(region.bytes))))
}

// hook answers one call; a length beyond the region panics, and so traps.
func hook(h hostabi.Hook, n uint32) uint64 {
	return uint64(guest.call(h, region.bytes[:region.in][:n], region.bytes[:region.out]))
}

//go:wasmexport weir_configure
func configure(n uint32) uint64 { return hook(hostabi.Configure, n) }

//go:wasmexport weir_classify
func classify(n uint32) uint64 { return hook(hostabi.Classify, n) }

//go:wasmexport weir_admit
func admit(n uint32) uint64 { return hook(hostabi.Admit, n) }

//go:wasmexport weir_framing
func framing(n uint32) uint64 { return hook(hostabi.FramingHook, n) }

//go:wasmexport weir_fault
func fault(n uint32) uint64 { return hook(hostabi.FaultHook, n) }

//go:wasmexport weir_error
func errorHook(n uint32) uint64 { return hook(hostabi.ErrorHook, n) }

//go:wasmimport weir_v1 log
func hostLog(level uint32, line string)
