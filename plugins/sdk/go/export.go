//go:build wasip1

package sdk

import (
	"unsafe"

	"weir/hostabi"
)

// region takes the input of every call and then its output (ABI.md §5.1). Go's
// collector does not move it. Nothing of an output aliases the input: the
// outputs hold strings, and decoding copies strings.
var region struct {
	bytes   []byte
	in, out int // bytes of it that are input and output
}

//go:wasmexport weir_abi
func abi() uint32 { return hostabi.Version }

//go:wasmexport weir_buffer
func buffer(inCap, outCap uint32) uint32 {
	region.in, region.out = int(inCap), int(outCap)
	region.bytes = make([]byte, max(inCap, outCap))
	return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(region.bytes))))
}

// hook answers one call; a length beyond the region panics, and so traps.
func hook(h hostabi.Hook, n uint32) uint64 {
	return uint64(call(h, region.bytes[:region.in][:n], region.bytes[:region.out]))
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
