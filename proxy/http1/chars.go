package http1

// Classes of bytes (RFC 9110 §5.6.2, §5.5; RFC 3986).
const (
	tchar    = 1 << iota
	isValue  // field-vchar, SP, HTAB, obs-text
	isTarget // of a request-target: visible ASCII but "#"
	isHost   // of a registered name
	isHex
)

var class = func() (t [256]byte) {
	for c := range 256 {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			t[c] |= tchar | isHost
		}
		if c >= 0x21 && c <= 0x7e {
			t[c] |= isValue | isTarget
		}
		if c >= 0x80 {
			t[c] |= isValue
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= tchar
	}
	for _, c := range "-._~" {
		t[c] |= isHost
	}
	for _, c := range "0123456789abcdefABCDEF" {
		t[c] |= isHex
	}
	t[' '] |= isValue
	t['\t'] |= isValue
	t['#'] &^= isTarget
	return t
}()

// all tells whether every byte of b is of class k.
func all(b []byte, k byte) bool {
	for _, c := range b {
		if class[c]&k == 0 {
			return false
		}
	}
	return true
}

// IsToken tells whether b is a token (RFC 9110 §5.6.2).
func IsToken(b []byte) bool { return len(b) > 0 && all(b, tchar) }

// EqualFold compares b with an ASCII lower-case s.
func EqualFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// FoldField tells whether name begins like lower, which is in lower case, and takes for
// '-' what is neither letter nor digit: a backend that turns field names into variable
// names (CGI, WSGI) cannot tell '_' from it, and lighttpd none of them.
func FoldField(name []byte, lower string) bool {
	if len(name) < len(lower) {
		return false
	}
	for i := range len(lower) {
		c := name[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] && (lower[i] != '-' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9') {
			return false
		}
	}
	return true
}

// TrimOWS cuts optional whitespace from both ends (RFC 9110 §5.6.3).
func TrimOWS(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
