package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"weir/hostabi"
)

// slot is a place in a template that the host fills: slotField, or one of
// hostabi.Slots, in that order.
type slot uint8

const (
	slotNone slot = iota // literal only
	slotCode
	slotMessage
	slotTitle
	slotRetryable
	slotRetryAfter
	slotLimit
	slotActual
	slotTraceID
	slotCount
	slotKey
	slotStatus
	slotField
)

const fieldPrefix = "field:"

// segment is a literal and the slot behind it.
type segment struct {
	lit    string
	slot   slot
	field  int    // slotField: index into Shape.Keep
	member string // optional slot: `,"name":`, written only when there is a value
}

// template is a compiled envelope: segments in order, immutable.
type template []segment

// compileTemplate parses text (ABI.md §7.2). keep are the pointers whose values
// are at hand; a slot for any other field is refused.
func compileTemplate(text string, keep []string) (template, error) {
	if len(text) > hostabi.MaxTemplate {
		return nil, fmt.Errorf("template of %d bytes exceeds %d", len(text), hostabi.MaxTemplate)
	}
	var t template
	for rest := text; ; {
		lit, after, found := strings.Cut(rest, "{{")
		if !found {
			if lit != "" || len(t) == 0 {
				t = append(t, segment{lit: lit})
			}
			return t, nil
		}
		at := len(text) - len(after) - len("{{")
		name, tail, closed := strings.Cut(after, "}}")
		if !closed {
			return nil, fmt.Errorf("template: the slot opened at byte %d is not closed by }}", at)
		}
		s, err := compileSlot(name, keep)
		if err != nil {
			return nil, fmt.Errorf("template: byte %d: %w", at, err)
		}
		s.lit = lit
		t = append(t, s)
		rest = tail
	}
}

func compileSlot(name string, keep []string) (segment, error) {
	base, optional := strings.CutPrefix(name, "?")
	var s segment
	member := base
	if pointer, ok := strings.CutPrefix(base, fieldPrefix); ok {
		s.slot, s.field = slotField, slices.Index(keep, pointer)
		if s.field < 0 {
			return s, fmt.Errorf("slot {{%s}} names a field that is not kept: add %q to the shape's keep list", name, pointer)
		}
		member = lastToken(pointer)
	} else {
		i := slices.Index(hostabi.Slots, base)
		if i < 0 {
			return s, fmt.Errorf("unknown slot {{%s}}; known are %s and %s/pointer", name, strings.Join(hostabi.Slots, ", "), fieldPrefix)
		}
		s.slot = slotCode + slot(i)
	}
	if optional {
		s.member = string(appendJSON([]byte(","), member)) + ":"
	}
	return s, nil
}

// lastToken returns the last reference token of a JSON pointer (RFC 6901 §4).
func lastToken(pointer string) string {
	last := pointer[strings.LastIndexByte(pointer, '/')+1:]
	return strings.NewReplacer("~1", "/", "~0", "~").Replace(last)
}

// append fills t with v's values, with e's own where v has none; false when that
// exceeds hostabi.MaxEnvelope.
func (t template) append(dst []byte, e *Envelope, v *Values) (_ []byte, ok bool) {
	most := len(dst) + hostabi.MaxEnvelope
	for i := range t {
		if len(dst) > most {
			return dst, false
		}
		s := &t[i]
		dst = append(dst, s.lit...)
		if s.slot == slotNone {
			continue
		}
		before := len(dst)
		dst = append(dst, s.member...)
		var present bool
		if dst, present = s.value(dst, e, v); present {
			continue
		}
		if s.member != "" {
			dst = dst[:before]
		} else {
			dst = append(dst, "null"...)
		}
	}
	return dst, len(dst) <= most
}

// value appends the slot's JSON value; false when it is absent.
func (s *segment) value(dst []byte, e *Envelope, v *Values) ([]byte, bool) {
	switch s.slot {
	case slotCode:
		code := v.Code
		if code == "" {
			code = e.code
		}
		return appendJSON(dst, string(code)), true
	case slotTitle:
		return appendJSON(dst, e.title), true
	case slotMessage:
		if v.Message == "" {
			return appendJSON(dst, e.title), true
		}
		return appendJSON(dst, v.Message), true
	case slotRetryable:
		return strconv.AppendBool(dst, v.Retryable), true
	case slotRetryAfter:
		return appendInt(dst, v.RetryAfterMS, 1)
	case slotLimit:
		return appendInt(dst, v.Limit, 0)
	case slotActual:
		return appendInt(dst, v.Actual, 0)
	case slotCount:
		return appendInt(dst, v.Count, 1)
	case slotStatus:
		if v.Status != 0 {
			return appendInt(dst, int64(v.Status), 1)
		}
		return appendInt(dst, int64(e.Status), 1)
	case slotTraceID:
		if v.TraceID == "" {
			return dst, false
		}
		return appendJSON(dst, v.TraceID), true
	case slotKey:
		if v.Key == nil {
			return dst, false
		}
		return appendJSON(dst, v.Key), true
	case slotField:
		if s.field >= len(v.Fields) || len(v.Fields[s.field]) == 0 || !utf8.Valid(v.Fields[s.field]) {
			return dst, false
		}
		return append(dst, v.Fields[s.field]...), true
	}
	return dst, false
}

// appendInt appends n when it is at least least.
func appendInt(dst []byte, n, least int64) ([]byte, bool) {
	if n < least {
		return dst, false
	}
	return strconv.AppendInt(dst, n, 10), true
}

// maxTemplates is how many texts are remembered: more than a route has envelopes.
const maxTemplates = 64

// template compiles text, or finds it compiled.
func (p *Policy) template(text string) (template, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t, ok := p.templates[text]; ok {
		return t, nil
	}
	t, err := compileTemplate(text, p.shape.Keep)
	if err == nil {
		if len(p.templates) == maxTemplates { // the guest never says the same
			clear(p.templates)
		}
		p.templates[text] = t
	}
	return t, err
}
