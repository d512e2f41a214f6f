package jsonpeek

import (
	"unicode/utf16"
	"unicode/utf8"
)

// next decodes the character of a string's inside at b[i]: one byte as it
// stands, or an escape (RFC 8259 §7). n is how many bytes of b it took, 0 if
// they are not valid. A lone surrogate becomes U+FFFD.
func next(b []byte, i int, out *[utf8.UTFMax]byte) (decoded []byte, n int) {
	if c := b[i]; c != '\\' {
		if c < ' ' || c == '"' {
			return nil, 0
		}
		return b[i : i+1], 1
	}
	if i+1 == len(b) {
		return nil, 0
	}
	switch c := b[i+1]; c {
	case '"', '\\', '/':
		out[0] = c
	case 'b':
		out[0] = '\b'
	case 'f':
		out[0] = '\f'
	case 'n':
		out[0] = '\n'
	case 'r':
		out[0] = '\r'
	case 't':
		out[0] = '\t'
	case 'u':
		u := hex4(b, i+2)
		if u < 0 {
			return nil, 0
		}
		n = 6
		if utf16.IsSurrogate(u) {
			pair := rune(utf8.RuneError)
			if i+7 < len(b) && b[i+6] == '\\' && b[i+7] == 'u' {
				pair = utf16.DecodeRune(u, hex4(b, i+8))
			}
			if u = pair; u != utf8.RuneError {
				n = 12
			}
		}
		return utf8.AppendRune(out[:0], u), n
	default:
		return nil, 0
	}
	return out[:1], 2
}

// hex4 reads four hexadecimal digits at b[i], -1 if they are not there.
func hex4(b []byte, i int) rune {
	if i+4 > len(b) {
		return -1
	}
	var u rune
	for _, c := range b[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		u = u<<4 | rune(c)
	}
	return u
}

// sameString reports whether the inside of a JSON string decodes to s.
func sameString(inside []byte, s string) bool {
	var out [utf8.UTFMax]byte
	for i := 0; i < len(inside); {
		c, n := next(inside, i, &out)
		if n == 0 || len(s) < len(c) || s[:len(c)] != string(c) {
			return false
		}
		s = s[len(c):]
		i += n
	}
	return s == ""
}

// validString reports whether the inside of a string has only valid escapes
// and no control characters. Bytes that are not UTF-8 are let pass.
func validString(inside []byte) bool {
	var out [utf8.UTFMax]byte
	for i := 0; i < len(inside); {
		_, n := next(inside, i, &out)
		if n == 0 {
			return false
		}
		i += n
	}
	return true
}

// appendText appends what the inside of a string decodes to, stopping behind
// max bytes at the earliest.
func appendText(dst, inside []byte, limit int) ([]byte, bool) {
	var out [utf8.UTFMax]byte
	for i := 0; i < len(inside) && len(dst) < limit; {
		c, n := next(inside, i, &out)
		if n == 0 {
			return dst, false
		}
		dst = append(dst, c...)
		i += n
	}
	return dst, true
}
