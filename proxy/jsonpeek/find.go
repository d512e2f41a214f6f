package jsonpeek

import "encoding/json"

// Find returns the value p points to, as it stands in doc. raw is nil unless r
// is Found, and then a valid JSON value, deeper nested than encoding/json allows
// (10,000) being Malformed. Of members with the same name the first counts. A
// value that the end of doc cuts off, or may have cut off, is Truncated. The
// zero Pointer finds nothing. The work is linear in len(doc).
func (p Pointer) Find(doc []byte) (raw []byte, r Result) {
	i, r := p.seek(doc)
	if r != Found {
		return nil, r
	}
	end, r := skipValue(doc, i)
	if r != Found {
		return nil, r
	}
	raw = doc[i:end:end]
	if !valid(raw) {
		return nil, Malformed
	}
	return raw, Found
}

// seek returns the index of the first byte of the value p points to. On Found
// there is such a byte.
func (p *Pointer) seek(doc []byte) (i int, r Result) {
	if len(p.tokens) == 0 {
		return 0, Absent
	}
	// Most messages are compact and name their kind first.
	level := 0
	if h := p.head; h != "" && len(doc) > len(h) && string(doc[:len(h)]) == h {
		i, level = len(h), 1
	}
	i = skipSpace(doc, i)
	for t := level; t < len(p.tokens); t++ {
		if i == len(doc) {
			return i, Truncated
		}
		switch c := doc[i]; {
		case c == '{':
			i, r = seekMember(doc, i+1, p.tokens[t].name)
		case c == '[':
			i, r = seekElement(doc, i+1, p.tokens[t].index)
		case c == '"' || beginsScalar(c):
			return i, Absent
		default:
			return i, Malformed
		}
		if r != Found {
			return i, r
		}
	}
	if i == len(doc) {
		return i, Truncated
	}
	return i, Found
}

// seekMember returns the index of the value of the first member called name in
// the object whose brace stands before doc[i].
func seekMember(doc []byte, i int, name string) (int, Result) {
	i = skipSpace(doc, i)
	if i < len(doc) && doc[i] == '}' {
		return i, Absent
	}
	for i < len(doc) {
		if doc[i] != '"' {
			return i, Malformed
		}
		i++
		end, plain := closingQuote(doc, i)
		if end < 0 {
			return i, Truncated
		}
		var same bool
		if plain {
			same = string(doc[i:end]) == name
		} else {
			same = sameString(doc[i:end], name)
		}
		i = skipSpace(doc, end+1)
		if i == len(doc) {
			return i, Truncated
		}
		if doc[i] != ':' {
			return i, Malformed
		}
		i++
		if same {
			return atValue(doc, i)
		}
		var r Result
		if i, r = skipValue(doc, i); r != Found {
			return i, r
		}
		if i, r = behindComma(doc, i, '}'); r != Found {
			return i, r
		}
	}
	return i, Truncated
}

// seekElement returns the index of element number index, counted from 0, of the
// array whose bracket stands before doc[i].
func seekElement(doc []byte, i, index int) (int, Result) {
	if index < 0 {
		return i, Absent
	}
	i = skipSpace(doc, i)
	if i < len(doc) && doc[i] == ']' {
		return i, Absent
	}
	for ; index > 0; index-- {
		var r Result
		if i, r = skipValue(doc, i); r != Found {
			return i, r
		}
		if i, r = behindComma(doc, i, ']'); r != Found {
			return i, r
		}
	}
	return atValue(doc, i)
}

// behindComma passes the comma between two members or elements, and the space
// around it. At the closing bracket there is nothing more to find.
func behindComma(doc []byte, i int, closing byte) (int, Result) {
	i = skipSpace(doc, i)
	switch {
	case i == len(doc):
		return i, Truncated
	case doc[i] == ',':
		return skipSpace(doc, i+1), Found
	case doc[i] == closing:
		return i, Absent
	}
	return i, Malformed
}

// atValue passes the space before a value.
func atValue(doc []byte, i int) (int, Result) {
	if i = skipSpace(doc, i); i == len(doc) {
		return i, Truncated
	}
	return i, Found
}

// valid reports whether raw, which is delimited like a value, is one.
func valid(raw []byte) bool {
	switch raw[0] {
	case '"':
		return validString(raw[1 : len(raw)-1])
	case '{', '[':
		return json.Valid(raw)
	}
	return validScalar(raw)
}

// validScalar reports whether raw is a number, true, false or null.
func validScalar(raw []byte) bool {
	switch raw[0] {
	case 't':
		return string(raw) == "true"
	case 'f':
		return string(raw) == "false"
	case 'n':
		return string(raw) == "null"
	}
	return validNumber(raw)
}

// validNumber reports whether b is a number of RFC 8259 §6.
func validNumber(b []byte) bool {
	i := 0
	if b[0] == '-' {
		i++
	}
	whole := digits(b, i)
	if whole == i || b[i] == '0' && whole > i+1 {
		return false
	}
	i = whole
	if i < len(b) && b[i] == '.' {
		fraction := digits(b, i+1)
		if fraction == i+1 {
			return false
		}
		i = fraction
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		exponent := digits(b, i)
		if exponent == i {
			return false
		}
		i = exponent
	}
	return i == len(b)
}

// digits returns the index behind the digits that begin at b[i].
func digits(b []byte, i int) int {
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	return i
}
