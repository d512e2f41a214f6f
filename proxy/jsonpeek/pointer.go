// Package jsonpeek reads single fields of a JSON document, or of a prefix of
// one, where they lie: no tree, no copy, no recursion.
//
// It looks at no more than it must. What precedes a field is skipped by
// matching quotes and brackets, and what follows it is not read, so a document
// that is not valid JSON can still have a field Found; the field itself is
// always a valid JSON value.
package jsonpeek

import (
	"fmt"
	"strings"
)

// Result says how a look-up ended.
type Result byte

// The results.
const (
	Found     Result = iota
	Absent           // the document certainly has no such value
	Truncated        // the prefix ended first
	Malformed        // not JSON where it was read
)

// String returns the result's name in lower case.
func (r Result) String() string {
	return [...]string{"found", "absent", "truncated", "malformed"}[r&3]
}

// Pointer is a compiled RFC 6901 JSON pointer. The zero value points nowhere.
type Pointer struct {
	tokens []token
	text   string
	head   string // `{"name":` of the first token, when that is how JSON writes it
}

// token is one step of a pointer.
type token struct {
	name  string // of an object's member
	index int    // of an array's element; -1 when name is not an index
}

// MaxPointer is how many bytes a pointer may have: compiled it takes 24 for each of
// them at most, and a policy has thousands.
const MaxPointer = 256

// Compile reads a pointer such as "/type" or "/items/0/id" (RFC 6901 §3). The
// empty pointer, which means the whole document, is refused, and one above MaxPointer.
func Compile(s string) (Pointer, error) {
	if s == "" {
		return Pointer{}, fmt.Errorf("JSON pointer is empty, want one that begins with \"/\"")
	}
	if len(s) > MaxPointer {
		return Pointer{}, fmt.Errorf("JSON pointer %.32q… of %d bytes exceeds %d", s, len(s), MaxPointer)
	}
	if s[0] != '/' {
		return Pointer{}, fmt.Errorf("JSON pointer %q does not begin with \"/\"", s)
	}
	p := Pointer{text: s, tokens: make([]token, 0, strings.Count(s, "/"))}
	for part := range strings.SplitSeq(s[1:], "/") {
		name, ok := unescapeToken(part)
		if !ok {
			return Pointer{}, fmt.Errorf("JSON pointer %q has a \"~\" that is neither \"~0\" nor \"~1\"", s)
		}
		p.tokens = append(p.tokens, token{name, arrayIndex(part)})
	}
	if name := p.tokens[0].name; !strings.ContainsFunc(name, escapes) {
		p.head = `{"` + name + `":`
	}
	return p, nil
}

// escapes reports whether JSON cannot write c as it stands (RFC 8259 §7).
func escapes(c rune) bool { return c < ' ' || c == '"' || c == '\\' }

// unescapeToken turns ~1 into / and ~0 into ~ (RFC 6901 §4).
func unescapeToken(s string) (name string, ok bool) {
	for i := 0; i < len(s); i++ {
		if s[i] == '~' && (i+1 == len(s) || s[i+1] != '0' && s[i+1] != '1') {
			return "", false
		}
	}
	return strings.ReplaceAll(strings.ReplaceAll(s, "~1", "/"), "~0", "~"), true
}

// arrayIndex reads digits without a leading zero, -1 for anything else and for
// indexes that no document in memory can have.
func arrayIndex(s string) int {
	if s == "" || len(s) > 9 || s[0] == '0' && len(s) > 1 {
		return -1
	}
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return -1
		}
		n = n*10 + int(s[i]-'0')
	}
	return n
}

// IsZero reports whether p points nowhere.
func (p Pointer) IsZero() bool { return len(p.tokens) == 0 }

// String returns the pointer as it was compiled, "" for the zero Pointer.
func (p Pointer) String() string { return p.text }
