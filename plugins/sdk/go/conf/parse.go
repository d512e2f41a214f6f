package conf

import (
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// kind of a JSON value, as messages name it.
type kind string

const (
	isNull   kind = "null"
	isBool   kind = "a boolean"
	isNumber kind = "a number"
	isString kind = "a string"
	isList   kind = "a list"
	isTable  kind = "a table"
)

// value is a parsed JSON value; text is a string unescaped, or a number as
// written.
type value struct {
	kind    kind
	text    string
	truth   bool
	list    []value
	members []member       // in the order of the text
	index   map[string]int // of the members by their keys
}

type member struct {
	key   string
	value value
	read  bool // by a getter; what stays unread is unknown
}

// maxDepth of lists and tables within each other.
const maxDepth = 32

// parser reads RFC 8259 JSON. Beyond it, it refuses keys given twice, invalid
// UTF-8 and lone surrogates: settings mean one thing or nothing.
type parser struct {
	b  []byte
	at int
}

func parse(b []byte) (value, error) {
	p := &parser{b: b}
	v, err := p.value(0)
	if err == nil {
		if p.space(); p.at < len(b) {
			err = p.fail("nothing may follow the value")
		}
	}
	return v, err
}

func (p *parser) fail(why string) error {
	return errors.New("byte " + strconv.Itoa(p.at) + ": " + why)
}

func (p *parser) space() {
	for p.at < len(p.b) {
		switch p.b[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// next is the byte at hand, 0 at the end.
func (p *parser) next() byte {
	if p.at < len(p.b) {
		return p.b[p.at]
	}
	return 0
}

func (p *parser) value(depth int) (value, error) {
	if depth > maxDepth {
		return value{}, p.fail("nested more than " + strconv.Itoa(maxDepth) + " deep")
	}
	p.space()
	switch c := p.next(); {
	case c == '{':
		return p.table(depth)
	case c == '[':
		return p.list(depth)
	case c == '"':
		s, err := p.string()
		return value{kind: isString, text: s}, err
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	case p.word("true"):
		return value{kind: isBool, truth: true}, nil
	case p.word("false"):
		return value{kind: isBool}, nil
	case p.word("null"):
		return value{kind: isNull}, nil
	}
	return value{}, p.fail("a JSON value is wanted here")
}

func (p *parser) word(w string) bool {
	if len(p.b)-p.at < len(w) || string(p.b[p.at:p.at+len(w)]) != w {
		return false
	}
	p.at += len(w)
	return true
}

func (p *parser) list(depth int) (value, error) {
	v := value{kind: isList}
	p.at++
	if p.space(); p.next() == ']' {
		p.at++
		return v, nil
	}
	for {
		e, err := p.value(depth + 1)
		if err != nil {
			return v, err
		}
		v.list = append(v.list, e)
		if more, err := p.separator(']'); !more {
			return v, err
		}
	}
}

func (p *parser) table(depth int) (value, error) {
	v := value{kind: isTable, index: map[string]int{}}
	p.at++
	if p.space(); p.next() == '}' {
		p.at++
		return v, nil
	}
	for {
		p.space()
		key, err := p.string()
		if err != nil {
			return v, err
		}
		if _, twice := v.index[key]; twice {
			return v, p.fail("key " + strconv.Quote(key) + " stands here twice")
		}
		if p.space(); p.next() != ':' {
			return v, p.fail("a colon is wanted here")
		}
		p.at++
		e, err := p.value(depth + 1)
		if err != nil {
			return v, err
		}
		v.index[key] = len(v.members)
		v.members = append(v.members, member{key: key, value: e})
		if more, err := p.separator('}'); !more {
			return v, err
		}
	}
}

// separator reads a comma (more follows) or the end.
func (p *parser) separator(end byte) (more bool, err error) {
	p.space()
	switch p.next() {
	case ',':
		p.at++
		return true, nil
	case end:
		p.at++
		return false, nil
	}
	return false, p.fail("a comma or " + string(rune(end)) + " is wanted here")
}

func (p *parser) number() (value, error) {
	start := p.at
	if p.next() == '-' {
		p.at++
	}
	if p.next() == '0' {
		p.at++
	} else if !p.digits() {
		return value{}, p.fail("a digit is wanted here")
	}
	if p.next() == '.' {
		if p.at++; !p.digits() {
			return value{}, p.fail("a digit is wanted here")
		}
	}
	if c := p.next(); c == 'e' || c == 'E' {
		p.at++
		if c := p.next(); c == '+' || c == '-' {
			p.at++
		}
		if !p.digits() {
			return value{}, p.fail("a digit is wanted here")
		}
	}
	return value{kind: isNumber, text: string(p.b[start:p.at])}, nil
}

func (p *parser) digits() bool {
	start := p.at
	for c := p.next(); c >= '0' && c <= '9'; c = p.next() {
		p.at++
	}
	return p.at > start
}

func (p *parser) string() (string, error) {
	if p.next() != '"' {
		return "", p.fail("a string is wanted here")
	}
	p.at++
	var s []byte
	for {
		c := p.next()
		switch {
		case p.at >= len(p.b):
			return "", p.fail("the string does not end")
		case c == '"':
			p.at++
			return string(s), nil
		case c < 0x20:
			return "", p.fail("a control character must be escaped")
		case c == '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			s = utf8.AppendRune(s, r)
		case c < utf8.RuneSelf:
			start := p.at
			for c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
				p.at++
				c = p.next()
			}
			s = append(s, p.b[start:p.at]...)
		default:
			r, n := utf8.DecodeRune(p.b[p.at:])
			if r == utf8.RuneError && n == 1 {
				return "", p.fail("invalid UTF-8")
			}
			s = append(s, p.b[p.at:p.at+n]...)
			p.at += n
		}
	}
}

func (p *parser) escape() (rune, error) {
	p.at++
	c := p.next()
	p.at++
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		r, ok := p.hex()
		if ok && utf16.IsSurrogate(r) {
			var low rune
			if ok = p.word(`\u`); ok {
				low, ok = p.hex()
				r = utf16.DecodeRune(r, low)
				ok = ok && r != utf8.RuneError
			}
		}
		if ok {
			return r, nil
		}
	}
	p.at = min(p.at, len(p.b))
	return 0, p.fail("an escape that JSON does not know")
}

func (p *parser) hex() (r rune, ok bool) {
	for range 4 {
		c := p.next()
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
		p.at++
	}
	return r, true
}
