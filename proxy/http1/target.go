package http1

import (
	"bytes"
	"net/netip"
)

// checkTarget checks the request-target (RFC 9112 §3.2) and takes the absolute
// form apart. CONNECT, and with it the authority form, was refused before.
func (r *Request) checkTarget(i *RequestInfo) *Error {
	target := r.Target
	if len(target) == 0 {
		return bad(1, "an empty request target")
	}
	if !all(target, isTarget) {
		return bad(1, "a byte that request targets may not have")
	}
	if target[0] == '/' {
		return nil
	}
	if len(target) == 1 && target[0] == '*' {
		if string(r.Method) != "OPTIONS" {
			return bad(1, "the target * with a method other than OPTIONS")
		}
		return nil
	}
	n := bytes.Index(target, []byte("://"))
	if n < 0 || !EqualFold(target[:n], "http") && !EqualFold(target[:n], "https") {
		return bad(1, "a request target that is neither a path nor an http URI")
	}
	rest := target[n+len("://"):]
	end := bytes.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	host, ok := authority(rest[:end])
	if !ok {
		return bad(1, "an http URI without a proper host")
	}
	i.Absolute, i.HTTPS = true, n == len("https")
	r.Host, r.Target = host, rest[end:]
	switch {
	case len(r.Target) == 0 && string(r.Method) == "OPTIONS":
		r.Target = []byte("*") // RFC 9112 §3.2.4
	case len(r.Target) == 0:
		r.Target = []byte("/")
	case r.Target[0] == '?':
		r.Target = append([]byte("/"), r.Target...)
	}
	return nil
}

// authority is b without a port that is empty, which means the same (RFC 3986
// §6.2.3) and is not forwarded: not every reader knows it. false: b is not host[:port].
func authority(b []byte) ([]byte, bool) {
	b = bytes.TrimSuffix(b, []byte(":"))
	return b, validHost(b)
}

// validHost tells whether b is host[:port]: a name of unreserved characters or
// an IP literal; the port, if there is a colon, of 1 to 5 digits up to 65535.
// No user information, no percent-encoding, nothing that a list could be.
func validHost(b []byte) bool {
	if len(b) == 0 || len(b) > 255+6 {
		return false
	}
	if b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 {
			return false
		}
		a, err := netip.ParseAddr(string(b[1:end]))
		if err != nil || !a.Is6() || a.Zone() != "" {
			return false
		}
		port := b[end+1:]
		return len(port) == 0 || port[0] == ':' && validPort(port[1:])
	}
	host := b
	if i := bytes.IndexByte(b, ':'); i >= 0 {
		if !validPort(b[i+1:]) {
			return false
		}
		host = b[:i]
	}
	return len(host) > 0 && all(host, isHost)
}

func validPort(b []byte) bool {
	n, ok := parseLength(b)
	return ok && len(b) <= 5 && n <= 65535
}
