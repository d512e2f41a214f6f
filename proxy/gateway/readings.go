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
	escaped := escapes(raw)
	if read := unescaped(raw); bytes.HasPrefix(turned(read), []byte("//")) { // of a host, for who resolves it (RFC 3986 §4.2)
		if escaped || bytes.ContainsAny(raw, `;\`) {
			return true // of these nobody looks where the host ends for whom
		}
		_, behind, _ := bytes.Cut(bytes.TrimLeft(read, "/"), []byte{'/'})
		if r.leadElsewhere(authority, append([]byte{'/'}, behind...), rt) {
			return true
		}
	}
	for _, raw := range slices.CompactFunc([][]byte{raw, turned(raw)}, bytes.Equal) { // some turn none that is escaped
		path := unescaped(raw)
		if escaped && climbs(bare(path)) {
			return true // some decode none of these before they resolve, some one of them, some all
		}
		if r.leadElsewhere(authority, path, rt) {
			return true
		}
		if !escaped {
			continue
		}
		// Some resolve a path, and find its resource, before they decode a slash.
		kept := unescaped(bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("%2f"), []byte("%252f")), []byte("%2F"), []byte("%252F")))
		if !bytes.Equal(kept, path) && r.leadElsewhere(authority, kept, rt) {
			return true
		}
		// Some take parameters off before.
		if short := unescaped(withoutParameters(raw)); !bytes.Equal(short, path) && r.leadElsewhere(authority, short, rt) {
			return true
		}
	}
	return false
}

// leadElsewhere tells whether some readings of path, which is decoded, lead to another
// route than rt.
func (r *router) leadElsewhere(authority, path []byte, rt *route) bool {
	room := make([]byte, len(path)+1)
	other := func(path []byte) bool {
		leads := func(how reading) bool { return r.match(authority, how.of(path, room)) != rt }
		return leads(reading{}) || climbs(path) && (leads(reading{up: true}) || leads(reading{up: true, empty: true}))
	}
	short := withoutParameters(path) // some turn it behind that, or not at all
	for _, read := range slices.CompactFunc([][]byte{path, turned(path), bare(path), short, turned(short)}, bytes.Equal) {
		if other(read) {
			return true
		}
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

// of returns path as r takes it, without double slashes. A "." leads nowhere else: it
// always goes. It reads from the end, in one pass: how many segments ".." takes away is
// known by then. What it returns is in room, which has a byte more than path.
func (r reading) of(path, room []byte) []byte {
	first, gone := len(room), 0
	for end := len(path); end >= 0; {
		start := end
		for start > 0 && path[start-1] != '/' {
			start--
		}
		segment := path[start:end]
		switch none := len(segment) == 0; {
		case len(segment) == 1 && segment[0] == '.' || none && !r.empty:
		case r.up && len(segment) == 2 && segment[0] == '.' && segment[1] == '.':
			gone++
		case gone > 0:
			gone--
		case !none:
			first -= len(segment)
			copy(room[first:], segment)
			first--
			room[first] = '/'
		}
		if end == len(path) && first == len(room) { // the last segment is none: a directory
			first--
			room[first] = '/'
		}
		end = start - 1
	}
	return room[first:]
}

// climbs tells whether a segment of path is "..".
func climbs(path []byte) bool { return bytes.Contains(append(path, '/'), []byte("/../")) }

// escapes tells whether an escape in path stands for what ends a segment, or for a dot.
func escapes(path []byte) bool {
	for i := range path {
		switch c, _ := escape(path[i:]); c {
		case '/', '\\', ';', '.':
			return true
		}
	}
	return false
}

// unescaped is path with its percent-escapes decoded, but for what is none.
func unescaped(path []byte) []byte {
	read := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		c, ok := escape(path[i:])
		if ok {
			i += 2
		} else {
			c = path[i]
		}
		read = append(read, c)
	}
	return read
}

// escape returns what the percent-escape stands for that s begins with.
func escape(s []byte) (c byte, ok bool) {
	if s[0] != '%' || len(s) < 3 {
		return 0, false
	}
	var decoded [1]byte
	_, err := hex.Decode(decoded[:], s[1:3])
	return decoded[0], err == nil
}

// withoutParameters is path without what stands behind a semicolon in its segments, which
// servlets take for parameters.
func withoutParameters(path []byte) []byte {
	kept := make([]byte, 0, len(path))
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
