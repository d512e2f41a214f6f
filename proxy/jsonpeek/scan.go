package jsonpeek

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// Bytes are looked at eight at a time: a word of marks has the high bit of each
// byte that matches.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080

	quotes      = '"' * ones
	backslashes = '\\' * ones
	spaces      = ' ' * ones
)

// zeros marks the zero bytes of w, exactly.
func zeros(w uint64) uint64 {
	return ^((w&^highs + ^uint64(highs)) | w) & highs
}

// special marks quotes, backslashes and control characters. It can mark bytes
// behind a true match too, so only the lowest mark counts.
func special(w uint64) uint64 {
	q, s := w^quotes, w^backslashes
	return ((q-ones)&^q | (s-ones)&^s | (w-spaces)&^w) & highs
}

// brackets marks the brackets of objects and arrays, exactly.
func brackets(w uint64) uint64 {
	w |= 0x20 * ones // makes braces of square brackets
	return zeros(w^'{'*ones) | zeros(w^'}'*ones)
}

// word loads b[i:i+8], with zero bytes behind the end of b.
func word(b []byte, i int) uint64 {
	if i+8 <= len(b) {
		return binary.LittleEndian.Uint64(b[i:])
	}
	var tail [8]byte
	copy(tail[:], b[i:])
	return binary.LittleEndian.Uint64(tail[:])
}

// first is the index in its word of the byte with the lowest mark.
func first(marks uint64) int { return bits.TrailingZeros64(marks) >> 3 }

// escaped takes the lowest mark of marks, a backslash, and the mark of the byte
// that it escapes, which is returned when that byte is the next word's.
func escaped(marks uint64) (rest, carry uint64) {
	low := marks & -marks
	return marks &^ (low | low<<8), low >> 56
}

// quietWords is how many words of a string without a mark are looked at before
// bytes.IndexByte, which is faster on long stretches, takes over.
const quietWords = 8

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
	for range quietWords {
		if i+8 > len(b) {
			break
		}
		if marks := special(binary.LittleEndian.Uint64(b[i:])); marks != 0 {
			if i += first(marks); b[i] == '"' {
				return i, true
			}
			return escapedQuote(b, i), false
		}
		i += 8
	}
	for ; i < len(b) && i+8 > len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i, true
		case c == '\\' || c < ' ':
			return escapedQuote(b, i), false
		}
	}
	return escapedQuote(b, i), false
}

// escapedQuote finds the closing quote at or behind b[i], which must not itself
// be escaped, in a string that may have escapes.
func escapedQuote(b []byte, i int) int {
	var carry uint64
	for quiet := 0; i < len(b); i += 8 {
		w := word(b, i)
		ends := zeros(w ^ quotes)
		marks := (ends | zeros(w^backslashes)) &^ carry
		if quiet++; marks|carry != 0 {
			quiet = 0
		}
		carry = 0
		for marks != 0 {
			if marks&-marks&ends != 0 {
				return i + first(marks)
			}
			marks, carry = escaped(marks)
		}
		if quiet == quietWords {
			return farQuote(b, i+8)
		}
	}
	return -1
}

// farQuote is escapedQuote for strings with few escapes. Backslashes are counted
// backwards from each quote and never beyond the quote before, so the work is
// linear.
func farQuote(b []byte, i int) int {
	for from := i; from < len(b); {
		n := bytes.IndexByte(b[from:], '"')
		if n < 0 {
			break
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
	return -1
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
	var carry uint64
	inString, quiet := false, 0
	for depth := 1; i < len(b); i += 8 {
		w := word(b, i)
		if !inString && zeros(w^quotes)|brackets(w) == 0 {
			continue // numbers, commas, space
		}
		marks := (zeros(w^quotes) | zeros(w^backslashes) | brackets(w)) &^ carry
		if quiet++; marks|carry != 0 || !inString {
			quiet = 0
		}
		carry = 0
		for marks != 0 {
			switch c := b[i+first(marks)]; {
			case c == '"':
				inString = !inString
			case c == '\\' && inString:
				marks, carry = escaped(marks)
				continue
			case c == '\\' || inString:
			case c == '{' || c == '[':
				depth++
			default:
				if depth--; depth == 0 {
					return i + first(marks) + 1, Found
				}
			}
			marks &= marks - 1
		}
		if quiet == quietWords {
			end := farQuote(b, i+8)
			if end < 0 {
				return len(b), Truncated
			}
			i, inString, quiet = end+1-8, false, 0
		}
	}
	return len(b), Truncated
}
