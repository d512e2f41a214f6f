package stream

import (
	"bytes"
	"strings"

	"weir/proxy/http1"
)

// foldEqual compares a field name with a lower-case one.
func foldEqual(key []byte, lower string) bool {
	return len(key) == len(lower) && foldPrefix(key, lower)
}

// foldPrefix tells whether a field name begins with a lower-case one.
func foldPrefix(key []byte, lower string) bool {
	if len(key) < len(lower) {
		return false
	}
	for i := range len(lower) {
		if lowerByte(key[i]) != lower[i] {
			return false
		}
	}
	return true
}

func lowerByte(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// hopByHop tells the fields that belong to one connection and are never
// forwarded in either direction (RFC 9110 §7.6.1). Trailer is not among them.
func hopByHop(key []byte) bool {
	if len(key) == 0 {
		return true
	}
	switch lowerByte(key[0]) {
	case 'c':
		return foldEqual(key, "connection")
	case 'k':
		return foldEqual(key, "keep-alive")
	case 'p': // Proxy-Status (RFC 9209) is about the whole way
		return foldPrefix(key, "proxy-") && !foldEqual(key, "proxy-status")
	case 't':
		return foldEqual(key, "te") || foldEqual(key, "transfer-encoding")
	case 'u':
		return foldEqual(key, "upgrade")
	}
	return false
}

// options collects the fields that a Connection field lists beyond those that
// are hop-by-hop anyway. Only tokens name any: has folds case as Unicode does. The
// zero options is empty.
type options struct{ b []byte } // names, each followed by a comma

// add takes the options of one Connection line.
func (o *options) add(line []byte) {
	for name := range list(line, ',') {
		name = http1.TrimOWS(name)
		if !hopByHop(name) && !foldEqual(name, "close") && !endToEnd(name) && http1.IsToken(name) {
			o.b = append(append(o.b, name...), ',')
		}
	}
}

// fromWeir are the fields that the upstream has in any case.
var fromWeir = []string{"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "x-request-id", "traceparent"}

// Listed returns the fields, in lower case, that the Connection of r takes away from
// the upstream: not those that it has from Weir then.
func Listed(r *http1.Request) map[string]bool {
	var o options
	for _, line := range r.Values("connection") {
		o.add(line)
	}
	names := make(map[string]bool)
	for name := range bytes.SplitSeq(o.b, comma) {
		names[strings.ToLower(string(name))] = true
	}
	for _, name := range fromWeir {
		delete(names, name)
	}
	return names
}

// endToEnd tells the fields that Connection cannot list away: without them the
// message would be another one, or no WebSocket handshake.
func endToEnd(key []byte) bool {
	return foldEqual(key, "host") || foldEqual(key, "content-length") || foldPrefix(key, "sec-websocket-")
}

// has tells whether key was listed.
func (o *options) has(key []byte) bool {
	for rest := o.b; len(rest) > 0; {
		name, after, _ := bytes.Cut(rest, comma)
		if bytes.EqualFold(name, key) {
			return true
		}
		rest = after
	}
	return false
}

// appendValue appends b as a token, or as a quoted string when it is none.
func appendValue(dst, b []byte) []byte {
	if http1.IsToken(b) {
		return append(dst, b...)
	}
	dst = append(dst, '"')
	for _, c := range b {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}
