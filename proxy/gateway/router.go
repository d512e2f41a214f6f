package gateway

import (
	"net"
	"net/netip"
	"strings"

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
// name before a wildcard before any, then the longest path prefix. What it takes
// does not grow with the number of routes.
type router struct {
	exact    map[string]*paths
	wildcard map[string]*paths // of ".example.com"
	longest  int               // of those, in bytes
	any      paths
	byPath   bool // a route has a path
}

// paths are the routes of a host by their path prefixes.
type paths struct {
	routes  map[string]*route
	longest int // prefix in bytes
}

func (r *router) add(host, path string, rt *route) {
	r.byPath = r.byPath || path != "/"
	switch {
	case host == "":
		r.any.add(path, rt)
	case strings.HasPrefix(host, "*."):
		r.longest = max(r.longest, len(host)-1)
		of(&r.wildcard, host[1:]).add(path, rt)
	default:
		of(&r.exact, host).add(path, rt)
	}
}

// of returns the paths of a host, which it adds if need be.
func of(hosts *map[string]*paths, host string) *paths {
	if *hosts == nil {
		*hosts = map[string]*paths{}
	}
	p := (*hosts)[host]
	if p == nil {
		p = &paths{}
		(*hosts)[host] = p
	}
	return p
}

// add adds a path. The first of several that mean the same counts.
func (p *paths) add(path string, rt *route) {
	read, _ := pathOf([]byte(path))
	prefix := string(read)
	if p.routes == nil {
		p.routes = map[string]*route{}
	}
	if p.routes[prefix] == nil {
		p.routes[prefix] = rt
	}
	p.longest = max(p.longest, len(prefix))
}

// match returns the route for a Host header and a normalised path; nil: none.
func (r *router) match(authority, path []byte) *route {
	if len(r.exact) > 0 || len(r.wildcard) > 0 {
		host := hostName(string(authority))
		if rt := r.exact[host].match(path); rt != nil {
			return rt
		}
		for i := max(0, len(host)-r.longest); i < len(host); i++ {
			if host[i] == '.' {
				if rt := r.wildcard[host[i:]].match(path); rt != nil {
					return rt
				}
			}
		}
	}
	return r.any.match(path)
}

// match tries the prefixes of path, the longest first, that end where a segment
// does: "/a" is one of "/a" and "/a/b", not of "/ab".
func (p *paths) match(path []byte) *route {
	if p == nil {
		return nil
	}
	for n := min(len(path), p.longest); n > 0; n-- {
		if n == len(path) || path[n] == '/' || path[n-1] == '/' {
			if rt := p.routes[string(path[:n])]; rt != nil {
				return rt
			}
		}
	}
	return nil
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
// another route than the path does. A plain one has this reading alone.
func pathOf(target []byte) (path []byte, plain bool) {
	raw, plain := target, true
	for i, c := range target {
		if c == '?' {
			raw = target[:i]
			break
		}
		switch c {
		case '%', ';', '\\':
			plain = false
		case '/':
			if i+1 < len(target) && (target[i+1] == '/' || target[i+1] == '.') {
				plain = false
			}
		}
	}
	if plain {
		return raw, true
	}
	path = unescaped(raw)
	return reading{up: true}.of(path, make([]byte, len(path)+1)), false
}
