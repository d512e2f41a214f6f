// Package framed is the framed-v1 codec: frames of a u32 big-endian length and
// that many bytes, decoded and laid as they pass, never held.
package framed

import (
	"encoding/binary"
	"fmt"
)

// headerSize is the number of bytes in front of each frame's payload.
const headerSize = 4

// MaxLength is the largest payload that a frame's length can express.
const MaxLength = 1<<32 - 1

// LengthError is a frame that declares more than the configured maximum.
type LengthError struct {
	Length uint32 // bytes declared
	Max    int64  // bytes allowed
}

// Error says the length and the maximum.
func (e *LengthError) Error() string {
	return fmt.Sprintf("Byte-stream frame length %d exceeds maximum (%d). The stream is not framed-v1, or it is corrupt.", e.Length, e.Max)
}

// TruncatedError is a stream that ended within a frame.
type TruncatedError struct {
	Bytes int64 // of the unfinished frame that did arrive, its header included
}

// Error says how much of a frame is left over.
func (e *TruncatedError) Error() string {
	return fmt.Sprintf("Byte-stream ended with %d bytes of incomplete frame data. The stream was truncated mid-frame.", e.Bytes)
}

// decoder follows a framed-v1 stream whose bytes are handed to it in pieces of
// any size. It keeps at most headerSize-1 bytes and looks at none twice. The
// zero decoder allows frames up to MaxLength.
type decoder struct {
	max    int64 // payload bytes of one frame; 0: MaxLength
	left   uint32
	length uint32 // of the frame begun; meaningful while left > 0
	head   [headerSize]byte
	n      int // bytes in head; 0 while within a payload
}

// next takes the first part of p that is either header bytes or bytes of one
// frame's payload: n bytes are consumed and payload, empty for a header, is the
// part of p that they were. A whole frame may take many calls. The only error
// is a *LengthError; nothing can be decoded after it.
func (d *decoder) next(p []byte) (payload []byte, n int, err error) {
	if d.left > 0 {
		n = int(min(int64(len(p)), int64(d.left)))
		d.left -= uint32(n)
		return p[:n], n, nil
	}
	n = copy(d.head[d.n:], p)
	if d.n += n; d.n < headerSize {
		return nil, n, nil
	}
	d.n = 0
	d.length = binary.BigEndian.Uint32(d.head[:])
	if d.max > 0 && int64(d.length) > d.max {
		// The header stays unread: what came before it is all that is valid.
		return nil, 0, &LengthError{Length: d.length, Max: d.max}
	}
	d.left = d.length
	return nil, n, nil
}

// follow takes all of p. On an error the first n bytes of p were valid.
func (d *decoder) follow(p []byte) (n int, err error) {
	for n < len(p) {
		_, m, err := d.next(p[n:])
		if err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

// strip takes all of p and moves the payload bytes in it together to its front; it
// returns their number. On an error these are the payloads before the bad frame.
func (d *decoder) strip(p []byte) (n int, err error) {
	for i := 0; i < len(p); {
		payload, m, err := d.next(p[i:])
		if err != nil {
			return n, err
		}
		n += copy(p[n:], payload)
		i += m
	}
	return n, nil
}

// end says whether the stream may end here: nil at a frame boundary, else a
// *TruncatedError.
func (d *decoder) end() error {
	switch {
	case d.left > 0:
		return &TruncatedError{Bytes: headerSize + int64(d.length-d.left)}
	case d.n > 0:
		return &TruncatedError{Bytes: int64(d.n)}
	}
	return nil
}
