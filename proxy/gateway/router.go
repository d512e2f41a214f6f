package gateway

import (
	"bytes"
	"net"
	"net/netip"
	"strings"

	"github.com/valyala/fasthttp"

	"weir/proxy/stream"
)

// route is a route of one generation.
type route struct {
	stream.Route
	origins []string // allowed_origins, lower case
	policy  string   // name
	live    *liveRoute
}

// router finds the route of a request: the most specific host first, an exact
// name before a wildcard before any, then the longest path prefix.
type router struct {
	exact    map[string][]*entry
	wildcard []hostEntries // longest suffix first
	any      []*entry
}

type hostEntries struct {
	suffix string // ".example.com"
	paths  []*entry
}

// entry is one path prefix; entries of a host stand longest first.
type entry struct {
	prefix string
	route  *route
}

func (r *router) add(host, path string, rt *route) {
	e := &entry{prefix: string(pathOf([]byte(path))), route: rt}
	switch {
	case host == "":
		r.any = insert(r.any, e)
	case strings.HasPrefix(host, "*."):
		suffix := host[1:]
		for i := range r.wildcard {
			if r.wildcard[i].suffix == suffix {
				r.wildcard[i].paths = insert(r.wildcard[i].paths, e)
				return
			}
		}
		at := 0
		for at < len(r.wildcard) && len(r.wildcard[at].suffix) >= len(suffix) {
			at++
		}
		r.wildcard = append(r.wildcard[:at:at], append([]hostEntries{{suffix, []*entry{e}}}, r.wildcard[at:]...)...)
	default:
		if r.exact == nil {
			r.exact = map[string][]*entry{}
		}
		r.exact[host] = insert(r.exact[host], e)
	}
}

// insert keeps paths longest first.
func insert(paths []*entry, e *entry) []*entry {
	at := 0
	for at < len(paths) && len(paths[at].prefix) >= len(e.prefix) {
		at++
	}
	return append(paths[:at:at], append([]*entry{e}, paths[at:]...)...)
}

// match returns the route for a Host header and a normalised path; nil: none.
func (r *router) match(authority, path []byte) *route {
	if len(r.exact) > 0 || len(r.wildcard) > 0 {
		host := hostName(string(authority))
		if rt := longest(r.exact[host], path); rt != nil {
			return rt
		}
		for i := range r.wildcard {
			if strings.HasSuffix(host, r.wildcard[i].suffix) {
				if rt := longest(r.wildcard[i].paths, path); rt != nil {
					return rt
				}
			}
		}
	}
	return longest(r.any, path)
}

func longest(paths []*entry, path []byte) *route {
	for _, e := range paths {
		if hasPrefix(path, e.prefix) {
			return e.route
		}
	}
	return nil
}

// hasPrefix matches on segment boundaries: "/a" is a prefix of "/a" and "/a/b",
// not of "/ab".
func hasPrefix(path []byte, prefix string) bool {
	if len(path) < len(prefix) || string(path[:len(prefix)]) != prefix {
		return false
	}
	return len(path) == len(prefix) || strings.HasSuffix(prefix, "/") || path[len(prefix)] == '/'
}

// hostName is a Host header without its port, in lower case; an IPv6 address is in
// brackets and in its one form (RFC 5952).
func hostName(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		if strings.Contains(h, ":") {
			h = "[" + h + "]"
		}
		host = h
	}
	if n := len(host); n > 1 && host[0] == '[' && host[n-1] == ']' {
		if a, err := netip.ParseAddr(host[1 : n-1]); err == nil {
			return "[" + a.String() + "]"
		}
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// pathOf returns the path of a request as routes see it: percent-decoded, dot
// segments and double slashes resolved, so that no spelling of a path reaches
// another route than the path does.
func pathOf(target []byte) []byte {
	raw := target
	for i, c := range target {
		if c == '?' {
			raw = target[:i]
			break
		}
	}
	if plain(raw) {
		return raw
	}
	u := fasthttp.AcquireURI()
	defer fasthttp.ReleaseURI(u)
	u.SetPathBytes(raw)
	path := bytes.Clone(u.Path())
	if bytes.HasSuffix(path, []byte("/.")) { // which fasthttp leaves (RFC 3986 §5.2.4)
		path = path[:len(path)-1]
	}
	return path
}

// plain reports whether a path needs no normalising.
func plain(path []byte) bool {
	for i, c := range path {
		if c == '%' || (c == '/' && i+1 < len(path) && (path[i+1] == '/' || path[i+1] == '.')) {
			return false
		}
	}
	return true
}
