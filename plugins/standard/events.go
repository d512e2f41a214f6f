package main

import (
	"slices"
	"strconv"
	"strings"

	"weir/hostabi"
	"weir/plugins/sdk/go"
	"weir/plugins/sdk/go/conf"
)

// events say what may become of a kind of message.
type events struct {
	droppable []string // patterns
	unless    string   // pointer
	conflate  byKey[string]
	priority  byKey[uint8]
	maxSize   byKey[uint64]
	set       bool // any of them
}

// maxPrewarm is how many event keys a host takes in Shape.Prewarm (ABI.md §6.1).
const maxPrewarm = 256

func (e *events) read(c *conf.Table, shape *sdk.Shape) {
	shape.EventKey = c.Strings("event_key", "/type")
	for i, p := range shape.EventKey {
		checkPointer(c, "event_key["+strconv.Itoa(i)+"]", p)
	}
	e.droppable = c.Strings("droppable")
	if c.Has("droppable_unless") {
		e.unless = c.String("droppable_unless", "")
		checkPointer(c, "droppable_unless", e.unless)
	}
	conflate := c.Table("conflate")
	for _, key := range conflate.Keys() {
		p := conflate.String(key, "/")
		checkPointer(conflate, key, p)
		e.conflate.add(key, p)
	}
	priority := c.Table("priority")
	for _, key := range priority.Keys() {
		e.priority.add(key, uint8(priority.Int(key, 0, 0, 255)))
	}
	maxSize := c.Table("max_size")
	for _, key := range maxSize.Keys() {
		e.maxSize.add(key, maxSize.Size(key, 0))
	}

	known := slices.Concat(e.droppable, conflate.Keys(), priority.Keys(), maxSize.Keys())
	if e.set = len(known) > 0; !e.set {
		shape.Constant = append(shape.Constant, hostabi.Classify)
	}
	for _, key := range known {
		if len(shape.Prewarm) < maxPrewarm && exact(key) && len(key) <= hostabi.MaxEventKey && !slices.Contains(shape.Prewarm, key) {
			shape.Prewarm = append(shape.Prewarm, key)
		}
	}
}

func (e *events) classify(in *sdk.ClassifyInput) (r sdk.Rule, a sdk.Answer) {
	key := string(in.Key)
	r.Conflate = e.conflate.get(key)
	if r.Conflate != "" || slices.ContainsFunc(e.droppable, func(p string) bool { return matches(p, key) }) {
		r.Class = sdk.Droppable
		r.Unless = e.unless
	}
	r.Priority = e.priority.get(key)
	r.MaxSize = e.maxSize.get(key)
	return r, sdk.If(e.set)
}

// checkPointer notes what is no RFC 6901 pointer to a field.
func checkPointer(c *conf.Table, key, p string) {
	escapes := strings.Count(p, "~0") + strings.Count(p, "~1")
	if !strings.HasPrefix(p, "/") || strings.Count(p, "~") > escapes {
		c.Fail(key, strconv.Quote(p)+` is not a pointer such as "/type"`)
	}
	if len(p) > hostabi.MaxPointer {
		c.Fail(key, "pointer of "+strconv.Itoa(len(p))+" bytes exceeds "+strconv.Itoa(hostabi.MaxPointer))
	}
}
