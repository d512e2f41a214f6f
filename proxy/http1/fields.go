package http1

import "bytes"

// maxFields bounds the fields of one head, and of one trailer, and the options that
// Connection lists: who forwards compares each with each.
const maxFields = 128

// lines walks the field lines of a head or of a trailer.
type lines struct {
	rest  []byte // begins at a line
	line  int    // number of the line before rest
	count int
	// spaced allows white space before a colon: who forwards a response removes it,
	// and refuses a request for it (RFC 9112 §5.1).
	spaced bool
}

// next returns the next field; ok is false at the blank line, behind which rest
// begins then.
func (f *lines) next() (field Field, ok bool, err *Error) {
	line, err := f.nextLine()
	if err != nil || len(line) == 0 {
		return field, false, err
	}
	if line[0] == ' ' || line[0] == '\t' {
		return field, false, bad(f.line, "a line begins with white space (obsolete folding)")
	}
	if f.count++; f.count > maxFields {
		return field, false, &Error{Status: 431, Reason: "more than 128 fields", Line: f.line}
	}
	n := 0
	for n < len(line) && class[line[n]]&tchar != 0 {
		n++
	}
	colon := n
	for f.spaced && colon < len(line) && (line[colon] == ' ' || line[colon] == '\t') {
		colon++
	}
	switch {
	case n > 0 && colon < len(line) && line[colon] == ':':
	case n == len(line):
		return field, false, bad(f.line, "a field without a colon")
	case line[n] == ' ' || line[n] == '\t':
		return field, false, bad(f.line, afterName(line[n:]))
	case line[n] != ':':
		return field, false, bad(f.line, "a byte that field names may not have")
	default:
		return field, false, bad(f.line, "a field without a name")
	}
	value := line[colon+1:]
	for _, c := range value {
		if class[c]&isValue == 0 {
			return field, false, bad(f.line, "a control character in a field")
		}
	}
	return Field{line[:n], TrimOWS(value)}, true, nil
}

// afterName says what is wrong with a line that has rest, which begins with white
// space, behind a token.
func afterName(rest []byte) string {
	colon := bytes.IndexByte(rest, ':')
	switch {
	case colon < 0:
		return "a field without a colon"
	case len(TrimOWS(rest[:colon])) > 0:
		return "white space within the name of a field"
	}
	return "white space before the colon of a field"
}

// nextLine returns the next line without its CRLF.
func (f *lines) nextLine() ([]byte, *Error) {
	f.line++
	i := bytes.IndexByte(f.rest, '\n')
	if i < 0 {
		return nil, bad(f.line, "a line without an end")
	}
	if i == 0 || f.rest[i-1] != '\r' {
		return nil, bad(f.line, "a line that ends in LF alone")
	}
	line := f.rest[:i-1]
	f.rest = f.rest[i+1:]
	return line, nil
}

// framing is what the fields of a head say about the length of its body.
type framing struct {
	length     int64
	hasLength  bool
	chunked    bool
	close      bool // Connection: close
	keepAlive  bool // Connection: keep-alive
	upgrade    bool // Connection: upgrade
	upgradesWS bool // Upgrade lists websocket
	options    int  // of Connection
}

// field takes one field of a request or a response.
func (m *framing) field(f Field, line int) *Error {
	name, value := f.Name, f.Value
	switch len(name) {
	case len("upgrade"):
		if EqualFold(name, "upgrade") {
			m.upgradesWS = m.upgradesWS || hasToken(value, "websocket")
		} else if EqualFold(name, "trailer") {
			return checkTrailerNames(value, line)
		}
	case len("connection"):
		if EqualFold(name, "connection") {
			m.close = m.close || hasToken(value, "close")
			m.keepAlive = m.keepAlive || hasToken(value, "keep-alive")
			m.upgrade = m.upgrade || hasToken(value, "upgrade")
			if m.options += 1 + bytes.Count(value, []byte{','}); m.options > maxFields {
				return &Error{Status: 431, Reason: "more than 128 connection options", Line: line}
			}
		}
	case len("content-length"):
		if EqualFold(name, "content-length") {
			return m.setLength(value, line)
		}
		if EqualFold(name, "content_length") {
			return bad(line, "Content_Length, which some take for Content-Length")
		}
	case len("transfer-encoding"):
		if EqualFold(name, "transfer-encoding") {
			return m.setCoding(value, line)
		}
		if EqualFold(name, "transfer_encoding") {
			return bad(line, "Transfer_Encoding, which some take for Transfer-Encoding")
		}
	}
	return nil
}

func (m *framing) setLength(value []byte, line int) *Error {
	if m.hasLength {
		return bad(line, "a second Content-Length")
	}
	if m.chunked {
		return bad(line, "Content-Length together with Transfer-Encoding")
	}
	n, ok := parseLength(value)
	if !ok {
		return bad(line, "a Content-Length that is not a number of bytes below 2^63")
	}
	m.length, m.hasLength = n, true
	return nil
}

func (m *framing) setCoding(value []byte, line int) *Error {
	if m.chunked {
		return bad(line, "a second Transfer-Encoding")
	}
	if m.hasLength {
		return bad(line, "Transfer-Encoding together with Content-Length")
	}
	if !EqualFold(value, "chunked") {
		return bad(line, "a Transfer-Encoding other than chunked")
	}
	m.chunked = true
	return nil
}

// parseLength reads 1*DIGIT that fits 63 bits.
func parseLength(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	var v uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + uint64(c-'0')
	}
	return int64(v), v < 1<<63
}

// hasToken tells whether the comma-separated list has the token, which is in
// lower case.
func hasToken(list []byte, token string) bool {
	for len(list) >= len(token) {
		var item []byte
		if i := bytes.IndexByte(list, ','); i < 0 {
			item, list = list, nil
		} else {
			item, list = list[:i], list[i+1:]
		}
		if EqualFold(TrimOWS(item), token) {
			return true
		}
	}
	return false
}
