// Package wasm has the names of what modules consist of, those of WebAssembly's
// binary format and of WASI, and writes them: what a module is rewritten with, and
// what tests build modules of.
package wasm

import "encoding/binary"

// AppendU32 appends an unsigned LEB128.
func AppendU32(dst []byte, v uint32) []byte { return binary.AppendUvarint(dst, uint64(v)) }

// AppendS32 appends a signed LEB128.
func AppendS32(dst []byte, v int32) []byte { return AppendS64(dst, int64(v)) }

// AppendS64 appends a signed LEB128.
func AppendS64(dst []byte, v int64) []byte {
	for {
		b := byte(v & 0x7F)
		v >>= 7
		if v == 0 && b&0x40 == 0 || v == -1 && b&0x40 != 0 {
			return append(dst, b)
		}
		dst = append(dst, b|0x80)
	}
}

// AppendName appends a name, or any bytes, with its length.
func AppendName(dst []byte, s string) []byte {
	return append(AppendU32(dst, uint32(len(s))), s...)
}
