package framed

import "io"

// Reader decodes a framed-v1 stream while it is read. It has no buffer of its
// own: it reads into its caller's.
//
// It ends with io.EOF at a frame boundary only; within a frame the end is a
// *TruncatedError, a frame above the maximum a *LengthError. Other errors of
// the stream below are handed on as they are. All are final.
type Reader struct {
	d     Decoder
	r     io.Reader
	strip bool
	err   error
}

// Unframe reads the payloads of the framed-v1 stream r, one after the other.
// No frame may be longer than max bytes; 0 means MaxLength.
func Unframe(r io.Reader, max int64) *Reader {
	return &Reader{d: Decoder{Max: max}, r: r, strip: true}
}

// Pass reads the framed-v1 stream r verbatim while it counts and checks its
// frames. No frame may be longer than max bytes; 0 means MaxLength.
func Pass(r io.Reader, max int64) *Reader {
	return &Reader{d: Decoder{Max: max}, r: r}
}

// Frames is the number of complete frames read so far, empty ones included.
func (r *Reader) Frames() int64 { return r.d.Frames() }

// Read reads what one Read of the stream below delivers, headers stripped or not.
func (r *Reader) Read(p []byte) (n int, err error) {
	for r.err == nil {
		got, err := r.r.Read(p)
		if r.strip {
			n, r.err = r.d.Strip(p[:got])
		} else {
			n, r.err = r.d.Count(p[:got])
		}
		if r.err == nil && err != nil {
			if r.err = err; err == io.EOF {
				if end := r.d.End(); end != nil {
					r.err = end
				}
			}
		}
		// A piece of headers and empty frames alone is no news to the caller.
		if n > 0 || got == 0 {
			return n, r.err
		}
	}
	return 0, r.err
}
