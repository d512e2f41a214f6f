package wasmtest

import (
	"slices"

	"weir/hostabi/wasmhost/wasm"
)

// Region is where guests keep their buffer.
const Region = 1024

// Bodies of hooks. They are not to be changed.
var (
	Echo        = []byte{wasm.OpLocalGet, 0, 0xAD} // i64.extend_i32_u(in_len)
	Unreachable = []byte{wasm.OpUnreachable}
	Forever     = []byte{wasm.OpLoop, wasm.BlockEmpty, wasm.OpBr, 0, wasm.OpEnd, wasm.OpUnreachable} // loop br 0 end
)

// FirstByte leaves the first byte of the input.
var FirstByte = Join(I32(0), []byte{0x2D, 0}, wasm.AppendU32(nil, Region))

// asText stores an i32 as the output; the address is below it.
var asText = Join([]byte{0x36, 2}, wasm.AppendU32(nil, Region), I64(4))

// Join is instructions one after another.
func Join(parts ...[]byte) []byte { return slices.Concat(parts...) }

// I32 is i32.const.
func I32(v int32) []byte { return wasm.AppendS32([]byte{wasm.OpI32Const}, v) }

// I64 is i64.const.
func I64(v int64) []byte { return wasm.AppendS64([]byte{wasm.OpI64Const}, v) }

// When is a hook that runs bad if the input begins with 'x', else echoes.
func When(bad []byte) []byte {
	return Join(FirstByte, I32('x'), []byte{0x46, wasm.OpIf, wasm.BlockEmpty}, bad, []byte{wasm.OpEnd}, Echo)
}

// Stored makes an i32 that body leaves on the stack the output.
func Stored(body []byte) []byte { return Join(I32(0), body, asText) }
