// Package framed is the framed-v1 codec: frames of a u32 big-endian length and
// that many bytes, decoded and laid as they pass, never held.
package framed

import (
	"encoding/binary"
	"fmt"
)

// HeaderSize is the number of bytes in front of each frame's payload.
const HeaderSize = 4

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

// Decoder follows a framed-v1 stream whose bytes are handed to it in pieces of
// any size. It keeps at most HeaderSize-1 bytes and looks at none twice. The
// zero Decoder allows frames up to MaxLength.
type Decoder struct {
	Max    int64 // payload bytes of one frame; 0: MaxLength
	frames int64 // complete
	left   uint32
	length uint32 // of the frame begun; meaningful while left > 0
	head   [HeaderSize]byte
	n      int // bytes in head; 0 while within a payload
}

// Frames is the number of complete frames seen, empty ones included.
func (d *Decoder) Frames() int64 { return d.frames }

// Next takes the first part of p that is either header bytes or bytes of one
// frame's payload: n bytes are consumed and payload, empty for a header, is the
// part of p that they were. A whole frame may take many calls. The only error
// is a *LengthError; nothing can be decoded after it.
func (d *Decoder) Next(p []byte) (payload []byte, n int, err error) {
	if d.left > 0 {
		n = int(min(int64(len(p)), int64(d.left)))
		if d.left -= uint32(n); d.left == 0 {
			d.frames++
		}
		return p[:n], n, nil
	}
	n = copy(d.head[d.n:], p)
	if d.n += n; d.n < HeaderSize {
		return nil, n, nil
	}
	d.n = 0
	d.length = binary.BigEndian.Uint32(d.head[:])
	if d.Max > 0 && int64(d.length) > d.Max {
		// The header stays unread: what came before it is all that is valid.
		return nil, 0, &LengthError{Length: d.length, Max: d.Max}
	}
	if d.left = d.length; d.left == 0 {
		d.frames++
	}
	return nil, n, nil
}

// Count follows all of p. On an error the first n bytes of p were valid.
func (d *Decoder) Count(p []byte) (n int, err error) {
	for n < len(p) {
		_, m, err := d.Next(p[n:])
		if err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

// Strip follows p and moves the payload bytes in it together to its front; it
// returns their number. On an error these are the payloads before the bad frame.
func (d *Decoder) Strip(p []byte) (n int, err error) {
	for i := 0; i < len(p); {
		payload, m, err := d.Next(p[i:])
		if err != nil {
			return n, err
		}
		n += copy(p[n:], payload)
		i += m
	}
	return n, nil
}

// End says whether the stream may end here: nil at a frame boundary, else a
// *TruncatedError.
func (d *Decoder) End() error {
	switch {
	case d.left > 0:
		return &TruncatedError{Bytes: HeaderSize + int64(d.length-d.left)}
	case d.n > 0:
		return &TruncatedError{Bytes: int64(d.n)}
	}
	return nil
}
