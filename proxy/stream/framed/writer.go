package framed

import (
	"encoding/binary"
	"io"
)

// Writer lays a stream of chunks as framed-v1: every chunk becomes one frame,
// or several when it is longer than the maximum. It holds nothing; give it a
// buffered writer.
type Writer struct {
	w     io.Writer
	max   int64
	chunk int64 // bytes of the open chunk still to be written
	frame int64 // bytes of the open frame still to be written; at most chunk
	head  [headerSize]byte
}

// Frame writes frames of at most max payload bytes to w; 0 means MaxLength.
func Frame(w io.Writer, max int64) *Writer {
	if max <= 0 || max > MaxLength {
		max = MaxLength
	}
	return &Writer{w: w, max: max}
}

// Begin opens a chunk of n bytes that the following Writes deliver in pieces,
// so that its frame goes out before the whole of it has arrived. It does
// nothing while a chunk is open or when n is not positive.
func (w *Writer) Begin(n int64) {
	if w.chunk == 0 && n > 0 {
		w.chunk = n
	}
}

// Write writes p into the open chunk. What is left of p when that is full, or
// the whole of p when none is open, is a chunk of its own.
func (w *Writer) Write(p []byte) (n int, err error) {
	for n < len(p) {
		if w.chunk == 0 {
			w.chunk = int64(len(p) - n)
		}
		if w.frame == 0 {
			w.frame = min(w.chunk, w.max)
			binary.BigEndian.PutUint32(w.head[:], uint32(w.frame))
			if _, err := w.w.Write(w.head[:]); err != nil {
				return n, err
			}
		}
		m, err := w.w.Write(p[n : n+int(min(int64(len(p)-n), w.frame))])
		n += m
		w.frame -= int64(m)
		w.chunk -= int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// End says whether the stream may end here: nil between frames, else a
// *TruncatedError.
func (w *Writer) End() error {
	if w.chunk > 0 {
		return &TruncatedError{Bytes: headerSize + int64(binary.BigEndian.Uint32(w.head[:])) - w.frame}
	}
	return nil
}
