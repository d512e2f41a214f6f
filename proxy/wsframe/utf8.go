package wsframe

import "unicode/utf8"

// UTF8 follows a text message that comes in pieces, cut anywhere, and tells
// whether it is UTF-8 (RFC 6455 §8.1, RFC 3629). The zero value stands before
// the first byte.
type UTF8 struct {
	tail [utf8.UTFMax]byte // beginning of a character whose rest is to come
	n    uint8             // bytes of it
}

// Add takes the next piece, unmasked. False: whatever follows, the message is
// not UTF-8, and v is of no use any more.
func (v *UTF8) Add(p []byte) bool {
	for v.n > 0 {
		if len(p) == 0 {
			return true
		}
		v.tail[v.n] = p[0]
		v.n++
		p = p[1:]
		if !utf8.FullRune(v.tail[:v.n]) {
			continue
		}
		if !utf8.Valid(v.tail[:v.n]) {
			return false
		}
		v.n = 0
	}
	for i := len(p) - 1; i >= 0 && i > len(p)-utf8.UTFMax; i-- {
		if !utf8.RuneStart(p[i]) {
			continue
		}
		if !utf8.FullRune(p[i:]) {
			v.n = uint8(copy(v.tail[:], p[i:])) //nolint:gosec // at most UTFMax-1
			p = p[:i]
		}
		break
	}
	return utf8.Valid(p)
}

// AddMasked is Add of a piece that is masked with key and begins pos bytes into
// its frame's payload. It is unmasked into scratch, which must not be empty, as
// much at a time as has room there.
func (v *UTF8) AddMasked(p []byte, key [4]byte, pos int, scratch []byte) bool {
	for len(p) > 0 {
		n := CopyMask(scratch, p, key, pos)
		if !v.Add(scratch[:n]) {
			return false
		}
		p, pos = p[n:], pos+n
	}
	return true
}

// Whole reports whether the message may end here: no character is cut.
func (v *UTF8) Whole() bool { return v.n == 0 }
