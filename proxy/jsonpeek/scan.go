package jsonpeek

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// The word-at-a-time tests below mark the high bit of each byte that matches.
// A borrow can mark bytes above a true match, never below one, so the lowest
// mark is always right, and only the lowest is used.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

func equals(w, pattern uint64) uint64 {
	x := w ^ pattern
	return (x - ones) &^ x & highs
}

// shortString is how many bytes of a string are looked at word by word before
// bytes.IndexByte, which is faster on long ones, takes over.
const shortString = 64

// skipSpace returns the index of the first byte at or behind i that is not
// JSON whitespace, len(b) if there is none.
func skipSpace(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' && isSpace(b[i]) {
		i++
	}
	return i
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// closingQuote returns the index of the quote that ends the string whose first
// byte is b[i], -1 if b ends before. plain promises that there is neither an
// escape nor a control character in it; without it there may be.
func closingQuote(b []byte, i int) (end int, plain bool) {
	for limit := i + shortString; i < limit; i += 8 {
		if i+8 > len(b) {
			return closingQuoteTail(b, i)
		}
		w := binary.LittleEndian.Uint64(b[i:])
		hit := equals(w, '"'*ones) | equals(w, '\\'*ones) | (w-' '*ones)&^w&highs
		if hit == 0 {
			continue
		}
		i += bits.TrailingZeros64(hit) >> 3
		if b[i] == '"' {
			return i, true
		}
		break
	}
	return farQuote(b, i), false
}

// closingQuoteTail is closingQuote for the last bytes of b.
func closingQuoteTail(b []byte, i int) (end int, plain bool) {
	for ; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i, true
		case c == '\\' || c < ' ':
			return farQuote(b, i), false
		}
	}
	return -1, false
}

// farQuote finds the closing quote at or behind b[i], which must not be a byte
// that a backslash before i escapes. Backslashes are counted backwards from
// each quote and never beyond the quote before, so the work is linear.
func farQuote(b []byte, i int) int {
	for from := i; ; {
		n := bytes.IndexByte(b[from:], '"')
		if n < 0 {
			return -1
		}
		quote := from + n
		slash := quote
		for slash > from && b[slash-1] == '\\' {
			slash--
		}
		if (quote-slash)&1 == 0 {
			return quote
		}
		from = quote + 1
	}
}

// skipValue returns the index behind the value that begins at or behind b[i],
// whitespace aside. Scalars are not checked beyond their first byte.
func skipValue(b []byte, i int) (next int, r Result) {
	i = skipSpace(b, i)
	if i == len(b) {
		return i, Truncated
	}
	switch c := b[i]; {
	case c == '"':
		end, _ := closingQuote(b, i+1)
		if end < 0 {
			return i, Truncated
		}
		return end + 1, Found
	case c == '{' || c == '[':
		return skipContainer(b, i+1)
	case beginsScalar(c):
		return skipScalar(b, i)
	}
	return i, Malformed
}

func beginsScalar(c byte) bool {
	return c == '-' || c >= '0' && c <= '9' || c == 't' || c == 'f' || c == 'n'
}

// skipScalar returns the index of the delimiter behind the number or literal at
// b[i]. At the end of b there may be more of it.
func skipScalar(b []byte, i int) (next int, r Result) {
	for ; i < len(b); i++ {
		if c := b[i]; c == ',' || c == '}' || c == ']' || isSpace(c) {
			return i, Found
		}
	}
	return i, Truncated
}

// skipContainer returns the index behind the bracket that balances one which
// stands before b[i]. It counts both kinds of bracket alike: in valid JSON they
// nest, and a document where they do not is nobody's JSON.
func skipContainer(b []byte, i int) (next int, r Result) {
	for depth := 1; i < len(b); i++ {
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			// Of the bytes JSON has outside strings, |0x26 makes 0x7F of the
			// four brackets alone.
			hit := equals(w, '"'*ones) | equals(w|0x26*ones, 0x7F*ones)
			if hit != 0 {
				i += bits.TrailingZeros64(hit) >> 3
				break
			}
			i += 8
		}
		if i == len(b) {
			break
		}
		switch b[i] {
		case '"':
			end, _ := closingQuote(b, i+1)
			if end < 0 {
				return i, Truncated
			}
			i = end
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1, Found
			}
		}
	}
	return i, Truncated
}
