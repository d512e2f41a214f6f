package framed

import "io"

// Source hands out a stream in pieces as they arrive, some of which may be empty. A
// piece is valid, and may be changed, until the next call; io.EOF may come with the
// last.
type Source interface {
	Next() ([]byte, error)
}

// Reader follows the framed-v1 stream of a Source and is one itself. It has no
// buffer: its pieces are those of the Source.
//
// It ends with io.EOF at a frame boundary only; within a frame the end is a
// *TruncatedError, a frame above the maximum a *LengthError. Other errors of
// the Source are handed on as they are. All are final.
type Reader struct {
	d     decoder
	s     Source
	strip bool
	err   error
}

// Unframe reads the payloads of the framed-v1 stream s, one after the other.
// No frame may be longer than max bytes; 0 means MaxLength.
func Unframe(s Source, max int64) *Reader {
	return &Reader{d: decoder{max: max}, s: s, strip: true}
}

// Pass reads the framed-v1 stream s verbatim while it checks its frames. No frame
// may be longer than max bytes; 0 means MaxLength.
func Pass(s Source, max int64) *Reader {
	return &Reader{d: decoder{max: max}, s: s}
}

// Next returns what one piece of the Source holds, headers stripped or not: nothing
// when it held only headers and empty frames, so that its caller can pass on what
// came before instead of waiting for more.
func (r *Reader) Next() ([]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	p, err := r.s.Next()
	n := 0
	if r.strip {
		n, r.err = r.d.strip(p)
	} else {
		n, r.err = r.d.follow(p)
	}
	if r.err == nil {
		if r.err = err; err == io.EOF {
			if end := r.d.end(); end != nil {
				r.err = end
			}
		}
	}
	return p[:n], r.err
}
