package wsframe

import (
	"encoding/binary"
	"math/bits"
)

// Header is what stands before a frame's payload (RFC 6455 §5.2).
type Header struct {
	Fin    bool
	RSV    byte // RSV1, RSV2, RSV3 as the bits 4, 2, 1
	Opcode Opcode
	Masked bool
	Mask   [4]byte // zero when not Masked
	Length int64   // of the payload in bytes, as declared
	Size   int     // of the header itself in bytes, 2 to MaxHeader
}

// Parse reads the header at the start of b. While ok is false and err is nil
// more bytes are wanted, MaxHeader at most. An err is an *Error: a length that
// is not written in its shortest form, or one with bit 63 set (RFC 6455 §5.2).
// What depends on other frames or on the direction is for Sequence.Check.
func Parse(b []byte) (h Header, ok bool, err error) {
	ok, err = h.Parse(b)
	return h, ok, err
}

// Parse is the function Parse into h itself, which stays as it was unless ok.
// In a loop it is twice as fast: a returned Header is copied in words just
// after its bytes were stored one by one, and the processor waits for that.
func (h *Header) Parse(b []byte) (ok bool, err error) {
	if len(b) < 2 {
		return false, nil
	}
	b0, b1 := b[0], b[1]
	length, size := int64(b1&0x7F), 2
	if length > 125 {
		if length, size, err = extendedLength(b); size == 0 {
			return false, err
		}
	}
	var mask [4]byte
	if b1&0x80 != 0 {
		if len(b) < size+4 {
			return false, nil
		}
		mask = [4]byte(b[size:])
		size += 4
	}
	h.Fin = b0&0x80 != 0
	h.RSV = b0 >> 4 & 7
	h.Opcode = Opcode(b0 & 0x0F)
	h.Masked = b1&0x80 != 0
	h.Mask = mask
	h.Length = length
	h.Size = size
	return true, nil
}

// Ordinary is Parse and Sequence.Check for what most frames are: x, the first
// four bytes in the order of a little-endian machine, begins a text or binary
// message of one frame, less than 64 KiB long, masked or not as asked for, with
// nothing wrong with its header, whose last four bytes are the mask. It must not
// stand inside a fragmented message. A size of 0 says nothing; Parse and Check
// do. (It is kept simple enough to be inlined.)
func Ordinary(x uint32, masked bool) (size, length int) {
	size, length = 2, int(x>>8&0x7F)
	if length > 125 {
		size, length = 4, int(bits.ReverseBytes16(uint16(x>>16)))
		if length < 126 || x&0x100 != 0 { // 127 stands before 64 bits
			return 0, 0
		}
	}
	if masked {
		x ^= 0x8000
		size += 4
	}
	if x&0x80FF-0x81 > 1 {
		return 0, 0
	}
	return size, length
}

// extendedLength reads the 16- or 64-bit length; size 0 means more is wanted,
// or the error.
func extendedLength(b []byte) (length int64, size int, err error) {
	if b[1]&0x7F == 126 {
		if len(b) < 4 {
			return 0, 0, nil
		}
		n := binary.BigEndian.Uint16(b[2:])
		if n < 126 {
			return 0, 0, protocolError("payload length %d written in 16 bits, lengths below 126 take 7 (RFC 6455 §5.2)", n)
		}
		return int64(n), 4, nil
	}
	if len(b) < 10 {
		return 0, 0, nil
	}
	n := binary.BigEndian.Uint64(b[2:])
	if n < 1<<16 {
		return 0, 0, protocolError("payload length %d written in 64 bits, lengths below 65536 take 16 (RFC 6455 §5.2)", n)
	}
	if n>>63 != 0 {
		return 0, 0, protocolError("payload length %#x has its most significant bit set (RFC 6455 §5.2)", n)
	}
	return int64(n), 10, nil
}

// AppendHeader appends h in its shortest form; Size is not read. Length must
// not be negative.
func AppendHeader(dst []byte, h Header) []byte {
	b0 := h.RSV&7<<4 | byte(h.Opcode)&0x0F
	if h.Fin {
		b0 |= 0x80
	}
	var mask byte
	if h.Masked {
		mask = 0x80
	}
	switch {
	case h.Length < 126:
		dst = append(dst, b0, mask|byte(h.Length))
	case h.Length < 1<<16:
		dst = append(dst, b0, mask|126, byte(h.Length>>8), byte(h.Length))
	default:
		dst = append(dst, b0, mask|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(h.Length))
	}
	if h.Masked {
		dst = append(dst, h.Mask[:]...)
	}
	return dst
}

// AppendFrame appends a whole FIN frame; payload is masked in the copy when
// mask is given, and is itself left as it is.
func AppendFrame(dst []byte, op Opcode, mask *[4]byte, payload []byte) []byte {
	h := Header{Fin: true, Opcode: op, Length: int64(len(payload))}
	if mask != nil {
		h.Masked, h.Mask = true, *mask
	}
	dst = AppendHeader(dst, h)
	dst = append(dst, payload...)
	if mask != nil {
		Mask(dst[len(dst)-len(payload):], *mask, 0)
	}
	return dst
}
