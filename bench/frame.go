package main

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Opcodes of RFC 6455 §5.2 that are met here.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
)

// header is the head of one frame, RFC 6455 §5.2.
type header struct {
	fin    bool
	op     byte
	masked bool
	mask   [4]byte
	size   int // bytes of the header itself
	length int // bytes of payload behind it
}

var errReserved = errors.New("reserved bits are set")

// appendHeader adds the header of an unfragmented frame. A nil mask leaves it
// unmasked.
func appendHeader(dst []byte, op byte, length int, mask *[4]byte) []byte {
	var m byte
	if mask != nil {
		m = 0x80
	}
	dst = append(dst, 0x80|op)
	switch {
	case length < 126:
		dst = append(dst, m|byte(length))
	case length <= 0xFFFF:
		dst = append(dst, m|126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(length))
	default:
		dst = append(dst, m|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(length))
	}
	if mask != nil {
		dst = append(dst, mask[:]...)
	}
	return dst
}

// parseHeader reads a header; ok is false while bytes of it are missing.
func parseHeader(b []byte) (h header, ok bool, err error) {
	if len(b) < 2 {
		return h, false, nil
	}
	if b[0]&0x70 != 0 {
		return h, false, errReserved
	}
	h.fin, h.op, h.masked = b[0]&0x80 != 0, b[0]&0x0F, b[1]&0x80 != 0
	h.length, h.size = int(b[1]&0x7F), 2
	switch h.length {
	case 126:
		if len(b) < 4 {
			return h, false, nil
		}
		h.length, h.size = int(binary.BigEndian.Uint16(b[2:])), 4
	case 127:
		if len(b) < 10 {
			return h, false, nil
		}
		n := binary.BigEndian.Uint64(b[2:])
		if n > 1<<40 {
			return h, false, fmt.Errorf("a frame of %d bytes", n)
		}
		h.length, h.size = int(n), 10
	}
	if h.masked {
		if len(b) < h.size+4 {
			return h, false, nil
		}
		copy(h.mask[:], b[h.size:])
		h.size += 4
	}
	return h, true, nil
}

// xor masks or unmasks b, which begins at offset from of its payload.
func xor(b []byte, mask [4]byte, from int) {
	for i := range b {
		b[i] ^= mask[(from+i)&3]
	}
}
