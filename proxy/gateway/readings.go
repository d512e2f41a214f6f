package gateway

import (
	"bytes"
	"encoding/hex"
	"slices"
)

// contested tells whether servers read the path of target, which leads to rt and is not
// plain, in ways of which some lead to another route: its policy would be passed by.
func (r *router) contested(authority, target []byte, rt *route) bool {
	if !r.byPath {
		return false
	}
	raw, _, _ := bytes.Cut(target, []byte{'?'})
	for _, raw := range slices.CompactFunc([][]byte{raw, turned(raw)}, bytes.Equal) { // some turn none that is escaped
		path := unescaped(raw)
		// Some resolve a path, and find its resource, before they decode a slash.
		kept := unescaped(bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("%2f"), []byte("%252f")), []byte("%2F"), []byte("%252F")))
		if escapes(raw) && bytes.Contains(append(bare(path), '/'), []byte("/../")) {
			return true // some decode none of these before they resolve, some one of them, some all
		}
		if r.leadElsewhere(authority, path, rt) || !bytes.Equal(kept, path) && r.leadElsewhere(authority, kept, rt) {
			return true
		}
	}
	return false
}

// leadElsewhere tells whether some readings of path, which is decoded, lead to another
// route than rt.
func (r *router) leadElsewhere(authority, path []byte, rt *route) bool {
	other := func(path []byte) bool {
		for _, how := range []reading{{}, {up: true}, {up: true, empty: true}} {
			if r.match(authority, how.of(path)) != rt {
				return true
			}
			if !bytes.Contains(path, []byte("..")) {
				break // all are alike
			}
		}
		return false
	}
	slashed := turned(path)
	short := withoutParameters(path) // some turn it behind that, or not at all
	for _, read := range slices.CompactFunc([][]byte{path, slashed, bare(path), short, turned(short)}, bytes.Equal) {
		if other(read) {
			return true
		}
	}
	if bytes.HasPrefix(slashed, []byte("//")) { // of a host, for who resolves it (RFC 3986 §4.2)
		_, behind, _ := bytes.Cut(bytes.TrimLeft(slashed, "/"), []byte{'/'})
		return other(append([]byte{'/'}, behind...))
	}
	return false
}

// turned is path with backslashes as slashes, as the URL of WHATWG has them.
func turned(path []byte) []byte { return bytes.ReplaceAll(path, []byte{'\\'}, []byte{'/'}) }

// bare is path as servlets take it, which moreover know parameters.
func bare(path []byte) []byte { return withoutParameters(turned(path)) }

// reading is how a server takes the segments of a path.
type reading struct {
	up    bool // ".." is the segment above, not one of that name
	empty bool // nothing between two slashes is a segment, which ".." takes away
}

// of returns path as r takes it, in one pass and without double slashes. A "." leads
// nowhere else: it always goes.
func (r reading) of(path []byte) []byte {
	read, within := make([]byte, 0, len(path)+1), false
	for segment := range bytes.SplitSeq(path, []byte{'/'}) {
		s := string(segment)
		switch within = false; {
		case s == "." || s == "" && !r.empty:
		case s == ".." && r.up:
			read = read[:max(0, bytes.LastIndexByte(read, '/'))]
		default:
			read, within = append(append(read, '/'), segment...), true
		}
	}
	if !within { // the last segment is none: a directory
		read = append(read, '/')
	}
	if r.empty {
		return reading{}.of(read)
	}
	return read
}

// escapes tells whether an escape in path stands for what ends a segment, or for a dot.
func escapes(path []byte) bool {
	for i, c := range path {
		if c != '%' {
			continue
		}
		if one := unescaped(path[i:min(i+3, len(path))]); len(one) == 1 && bytes.ContainsAny(one, `/\;.`) {
			return true
		}
	}
	return false
}

// unescaped is path with its percent-escapes decoded, but for what is none.
func unescaped(path []byte) []byte {
	read := make([]byte, 0, len(path))
	var decoded [1]byte
	for i := 0; i < len(path); i++ {
		decoded[0] = path[i]
		if path[i] == '%' && i+2 < len(path) {
			if _, err := hex.Decode(decoded[:], path[i+1:i+3]); err == nil {
				i += 2
			}
		}
		read = append(read, decoded[0])
	}
	return read
}

// withoutParameters is path without what stands behind a semicolon in its segments, which
// servlets take for parameters.
func withoutParameters(path []byte) []byte {
	var kept []byte
	inside := false
	for _, c := range path {
		if c == '/' || c == ';' {
			inside = c == ';'
		}
		if !inside {
			kept = append(kept, c)
		}
	}
	return kept
}
