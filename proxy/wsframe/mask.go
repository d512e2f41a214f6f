package wsframe

import (
	"encoding/binary"
	"math/bits"
)

// Mask XORs b in place with key, as if b began pos bytes into the payload
// (RFC 6455 §5.3). Masking twice restores b.
func Mask(b []byte, key [4]byte, pos int) {
	xor(b, b, key, pos)
}

// CopyMask masks the first min(len(dst), len(src)) bytes of src into dst, as
// if src began pos bytes into the payload, and returns how many there were.
// dst and src must be the same memory or not overlap.
func CopyMask(dst, src []byte, key [4]byte, pos int) int {
	n := min(len(dst), len(src))
	xor(dst[:n], src[:n], key, pos)
	return n
}

// xor works on slices of equal length, in words of 8 bytes while it can.
func xor(dst, src []byte, key [4]byte, pos int) {
	k32 := bits.RotateLeft32(binary.LittleEndian.Uint32(key[:]), -8*(pos&3))
	k := uint64(k32)<<32 | uint64(k32)
	le := binary.LittleEndian
	for len(src) >= 32 && len(dst) >= 32 {
		d, s := dst[:32:32], src[:32:32]
		le.PutUint64(d[0:], le.Uint64(s[0:])^k)
		le.PutUint64(d[8:], le.Uint64(s[8:])^k)
		le.PutUint64(d[16:], le.Uint64(s[16:])^k)
		le.PutUint64(d[24:], le.Uint64(s[24:])^k)
		dst, src = dst[32:], src[32:]
	}
	for len(src) >= 8 && len(dst) >= 8 {
		le.PutUint64(dst, le.Uint64(src)^k)
		dst, src = dst[8:], src[8:]
	}
	// Each word is a whole number of keys, so k still starts at its first byte.
	for i := range src {
		dst[i] = src[i] ^ byte(k>>(8*(i&7)))
	}
}
