// A policy as stock Go builds it, without the SDK.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
	"unsafe"
)

var buffer []byte

//go:wasmimport weir_v1 log
func log(level uint32, ptr unsafe.Pointer, n uint32)

//go:wasmexport weir_abi
func abi() uint32 { return 1 << 16 }

//go:wasmexport weir_buffer
func region(in, out uint32) unsafe.Pointer {
	buffer = make([]byte, max(in, out))
	return unsafe.Pointer(&buffer[0])
}

//go:wasmexport weir_configure
func configure(n uint32) uint64 {
	line := []byte("configured with " + string(buffer[:n]))
	log(1, unsafe.Pointer(&line[0]), uint32(len(line)))
	return 0
}

//go:wasmexport weir_classify
func classify(n uint32) uint64 {
	var v map[string]any
	if err := json.Unmarshal(buffer[:n], &v); err != nil {
		return 2 << 32
	}
	time.Sleep(time.Hour)
	fmt.Fprintln(os.Stderr, "classifying", v["type"])
	return uint64(copy(buffer, fmt.Sprint(v["type"])))
}

//go:wasmexport weir_admit
func admit(n uint32) uint64 { panic("no admittance") }

var garbage []byte

// framing leaves 8 KiB behind.
//
//go:wasmexport weir_framing
func framing(n uint32) uint64 {
	garbage = make([]byte, 8<<10)
	return uint64(n)
}

func main() {}
