package jsonpeek

import "fmt"

// MaxKey is how many bytes of a key are returned; what is longer is cut there.
// It is above the longest event key a policy is asked about, so that a cut key
// is told from a whole one, and low enough that no key makes a buffer grow far.
const MaxKey = 256

// Key reads the event key of a message: what several pointers find, joined
// with ':'.
type Key struct {
	pointers []Pointer
}

// NewKey compiles the pointers of a key, at least one.
func NewKey(pointers []string) (*Key, error) {
	if len(pointers) == 0 {
		return nil, fmt.Errorf("an event key needs at least one JSON pointer")
	}
	k := &Key{pointers: make([]Pointer, len(pointers))}
	for i, s := range pointers {
		p, err := Compile(s)
		if err != nil {
			return nil, err
		}
		k.pointers[i] = p
	}
	return k, nil
}

// Append returns the key of doc, cut to MaxKey bytes: strings unescaped,
// numbers, true, false and null as written, joined with ':'. An object or array
// makes it Malformed. An absent value is empty in its place; absent ones at the
// end are left out with their colons; the result is Absent when all are. The
// key is nil unless r is Found.
//
// The key lies in dst's spare capacity, appended behind nothing: dst's contents
// are scratch. The key of one pointer to a string without escapes is a slice of
// doc instead, and dst is not touched; so never pass a key back as dst.
func (k *Key) Append(dst, doc []byte) (key []byte, r Result) {
	key, _, r = k.AppendFrom(dst, doc)
	return key, r
}

// AppendFrom is Append. It also returns how many bytes of doc decide its key:
// every document that begins with the same bytes has the same. 0 when that is
// not known.
func (k *Key) AppendFrom(dst, doc []byte) (key []byte, decisive int, r Result) {
	if len(k.pointers) == 1 {
		return k.pointers[0].text1(dst, doc)
	}
	key, r = k.join(dst[:0], doc)
	return key, 0, r
}

// text1 is AppendFrom for a single pointer.
func (p *Pointer) text1(dst, doc []byte) (key []byte, decisive int, r Result) {
	i, r := p.seek(doc)
	if r != Found {
		return nil, 0, r
	}
	if doc[i] == '"' {
		end, plain := closingQuote(doc, i+1)
		if end < 0 {
			return nil, 0, Truncated
		}
		if plain {
			// The first of its name wins: nothing behind its value is looked at.
			decisive = end + 1
			end = min(end, i+1+MaxKey)
			return doc[i+1 : end : end], decisive, Found
		}
	}
	key, r = appendValue(dst[:0], doc, i)
	if r != Found {
		return nil, 0, r
	}
	return key[:min(len(key), MaxKey)], 0, Found
}

// join is Append for several pointers.
func (k *Key) join(dst, doc []byte) (key []byte, r Result) {
	length, found := 0, false
	for n := range k.pointers {
		if n > 0 {
			dst = append(dst, ':')
		}
		i, r := k.pointers[n].seek(doc)
		if r == Found {
			dst, r = appendValue(dst, doc, i)
		}
		switch r {
		case Found:
			length, found = len(dst), true
		case Absent:
		default:
			return nil, r
		}
	}
	if !found {
		return nil, Absent
	}
	return dst[:min(length, MaxKey)], Found
}

// appendValue appends the scalar at doc[i]; what goes past MaxKey may be left
// out.
func appendValue(dst, doc []byte, i int) ([]byte, Result) {
	if c := doc[i]; c == '{' || c == '[' {
		return dst, Malformed
	}
	end, r := skipValue(doc, i)
	if r != Found {
		return dst, r
	}
	if raw := doc[i:end]; raw[0] != '"' {
		if !validScalar(raw) {
			return dst, Malformed
		}
		return append(dst, raw[:min(len(raw), MaxKey)]...), Found
	}
	dst, ok := appendText(dst, doc[i+1:end-1], MaxKey)
	if !ok {
		return dst, Malformed
	}
	return dst, Found
}
