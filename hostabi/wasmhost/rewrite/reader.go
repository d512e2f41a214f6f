package rewrite

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// reader walks the binary of a module. The first error sticks, and every read after it
// returns zero, so that a caller checks once per structure.
type reader struct {
	b   []byte
	off int
	err error
}

var (
	errShort = errors.New("the binary ends too early")
	errLEB   = errors.New("an integer is not valid LEB128")
	errName  = errors.New("a name is not valid UTF-8")
	errLong  = fmt.Errorf("a name is longer than %d bytes", maxName)
	errCount = errors.New("a count exceeds its section")
)

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.off = len(r.b)
}

func (r *reader) more() bool { return r.err == nil && r.off < len(r.b) }

func (r *reader) byte() byte {
	if r.off >= len(r.b) {
		r.fail(errShort)
		return 0
	}
	r.off++
	return r.b[r.off-1]
}

// take returns the next n bytes.
func (r *reader) take(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)-r.off) {
		r.fail(errShort)
		return nil
	}
	r.off += int(n)
	return r.b[r.off-int(n) : r.off]
}

// u32 reads an unsigned LEB128 of at most 5 bytes.
func (r *reader) u32() uint32 {
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		b := r.byte()
		v |= uint64(b&0x7F) << shift
		if b < 0x80 {
			if v > 1<<32-1 {
				break
			}
			return uint32(v)
		}
	}
	r.fail(errLEB)
	return 0
}

// skipLEB passes a LEB128 of at most n bytes, signed or not.
func (r *reader) skipLEB(n int) {
	for range n {
		if r.byte() < 0x80 {
			return
		}
	}
	r.fail(errLEB)
}

// count reads the length of a vector whose elements take at least a byte each,
// so that nothing is allocated for elements that are not there.
func (r *reader) count() uint32 {
	n := r.u32()
	if uint64(n) > uint64(len(r.b)-r.off) {
		r.fail(errCount)
		return 0
	}
	return n
}

func (r *reader) name() string {
	b := r.take(r.u32())
	switch {
	case len(b) > maxName:
		r.fail(errLong)
	case !utf8.Valid(b):
		r.fail(errName)
	default:
		return string(b)
	}
	return ""
}

// limits reads the limits of a table or memory; hasMax is false for an open end.
func (r *reader) limits() (flags byte, low, high uint32, hasMax bool) {
	flags = r.byte()
	low = r.u32()
	if flags&1 != 0 {
		high = r.u32()
	}
	return flags, low, high, flags&1 != 0
}
