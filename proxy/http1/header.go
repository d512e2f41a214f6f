package http1

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Field is one field line of a head: a name, and a value without the white space
// around it.
type Field struct{ Name, Value []byte }

// AppendTo appends the line, with its CRLF, to b.
func (f Field) AppendTo(b []byte) []byte {
	b = append(append(b, f.Name...), ": "...)
	return append(append(b, f.Value...), "\r\n"...)
}

// Header holds the field lines of a head, in the order and the spelling in which
// they came or were added. Names are compared without regard to case (RFC 9110
// §5.1). The bytes it hands out are valid until Reset.
type Header struct {
	fields []Field
	mem    []byte // what they point into; when it grows, some into what it was
}

// Fields are all of them; they must not be changed.
func (h *Header) Fields() []Field { return h.fields }

// Get returns the value of the first field of that name; nil: there is none.
func (h *Header) Get(name string) []byte {
	for i := range h.fields {
		if sameName(h.fields[i].Name, name) {
			return h.fields[i].Value
		}
	}
	return nil
}

// Values returns the values of all fields of that name.
func (h *Header) Values(name string) (values [][]byte) {
	for i := range h.fields {
		if sameName(h.fields[i].Name, name) {
			values = append(values, h.fields[i].Value)
		}
	}
	return values
}

// Add appends a field.
func (h *Header) Add(name, value string) {
	at := len(h.mem)
	h.mem = append(append(h.mem, name...), value...)
	mid := at + len(name)
	h.fields = append(h.fields, Field{h.mem[at:mid:mid], h.mem[mid:len(h.mem):len(h.mem)]})
}

// Set appends a field in place of all others of its name.
func (h *Header) Set(name, value string) {
	h.Remove(func(n []byte) bool { return sameName(n, name) })
	h.Add(name, value)
}

// AddDate adds the Date of an answer that begins here and has none (RFC 9110
// §6.6.1).
func (h *Header) AddDate(now time.Time) {
	d := lastDate.Load()
	if second := now.Unix(); d == nil || d.second != second {
		d = &date{second, now.UTC().Format(http.TimeFormat)}
		lastDate.Store(d)
	}
	h.Add("Date", d.text)
}

// date is a second as the field says it.
type date struct {
	second int64
	text   string
}

// lastDate is the one that was written last: writing it costs more than the rest
// of an answer's head, and it is the same for thousands.
var lastDate atomic.Pointer[date]

// Remove takes fields out; the others keep their order.
func (h *Header) Remove(unwanted func(name []byte) bool) {
	h.fields = slices.DeleteFunc(h.fields, func(f Field) bool { return unwanted(f.Name) })
}

// Reset removes all fields.
func (h *Header) Reset() {
	h.fields, h.mem = h.fields[:0], h.mem[:0]
	if cap(h.mem) > defaultMaxHeadBytes {
		h.mem = nil
	}
}

// keep begins with a copy of head, whose fields are about to be added.
func (h *Header) keep(head []byte) []byte {
	h.fields = h.fields[:0]
	h.mem = append(h.mem[:0], head...)
	return h.mem
}

// sameName compares names without regard to case.
func sameName(name []byte, other string) bool {
	return len(name) == len(other) && strings.EqualFold(string(name), other)
}
