// Package stream carries one HTTP exchange between a client and an upstream,
// both bodies as they arrive and neither ever held whole.
package stream

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/netip"

	"weir/proxy/http1"
)

// Client is the sender of a request, as far as it can be believed.
type Client struct {
	Addr    netip.Addr // of the client itself: what limits count and logs name
	Peer    netip.Addr // of the other end of the connection
	Trusted bool       // Peer is a trusted proxy, whose word on Addr was taken
	TLS     bool       // the connection is encrypted
}

// ClientOf tells who sent the request with the head h over c, when the peers in
// trusted are proxies whose forwarding fields are believed.
func ClientOf(c net.Conn, h *http1.Request, trusted []netip.Prefix) Client {
	peer := peerAddr(c)
	return Client{
		Addr:    ClientAddr(peer, h, trusted),
		Peer:    peer,
		Trusted: contains(trusted, peer),
		TLS:     encrypted(c),
	}
}

// LogName is what the log calls a client that came by conn: it has its port where it
// is the other end itself.
func (c Client) LogName(conn net.Conn) string {
	if c.Addr.IsValid() && c.Addr != c.Peer {
		return c.Addr.String()
	}
	return conn.RemoteAddr().String()
}

// ClientAddr is the address of the client behind peer: peer itself unless it is
// a trusted proxy, else the rightmost address of X-Forwarded-For that is not
// one. Forwarded (RFC 7239) is asked only when there is no X-Forwarded-For. An
// entry that is no address ends the search at the proxy that reported it, and so
// does a line in which a quoted string does not end.
func ClientAddr(peer netip.Addr, h *http1.Request, trusted []netip.Prefix) netip.Addr {
	if !contains(trusted, peer) {
		return peer
	}
	nodes := forwardedFor(h)
	for i := len(nodes) - 1; i >= 0; i-- {
		addr, ok := nodeAddr(nodes[i])
		if !ok {
			return peer
		}
		if peer = addr; !contains(trusted, peer) {
			return peer
		}
	}
	return peer
}

// forwardedFor lists who passed the request on, the client first.
func forwardedFor(h *http1.Request) (nodes [][]byte) {
	for _, line := range h.Values("x-forwarded-for") {
		nodes = append(nodes, bytes.Split(line, comma)...)
	}
	if len(nodes) > 0 {
		return nodes
	}
	for _, line := range h.Values("forwarded") {
		if !ended(line) {
			nodes = append(nodes, unknown)
			continue
		}
		for element := range list(line, ',') {
			node := unknown // an element need not have a for=
			for pair := range list(element, ';') {
				name, value, _ := bytes.Cut(pair, equals)
				if foldEqual(bytes.TrimSpace(name), "for") {
					node = bytes.Trim(bytes.TrimSpace(value), `"`)
				}
			}
			nodes = append(nodes, node)
		}
	}
	return nodes
}

var (
	comma   = []byte{','}
	equals  = []byte{'='}
	unknown = []byte("unknown") // RFC 7239 §6.2
)

// list splits b at sep, but not within quoted strings.
func list(b []byte, sep byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		start, q := 0, quoting{}
		for i, c := range b {
			if q.take(c); c == sep && !q.inside {
				if !yield(b[start:i]) {
					return
				}
				start = i + 1
			}
		}
		yield(b[start:])
	}
}

// ended tells whether the quoted strings in b end: one that does not hides what
// others have appended.
func ended(b []byte) bool {
	q := quoting{}
	for _, c := range b {
		q.take(c)
	}
	return !q.inside
}

// quoting follows quoted strings, byte by byte (RFC 9110 §5.6.4).
type quoting struct{ inside, escaped bool }

func (q *quoting) take(c byte) {
	switch {
	case q.escaped:
		q.escaped = false
	case c == '"':
		q.inside = !q.inside
	case c == '\\':
		q.escaped = q.inside
	}
}

// nodeAddr reads the address of a node as RFC 7239 §6 and X-Forwarded-For write
// it: bare, with a port, IPv6 in brackets.
func nodeAddr(b []byte) (netip.Addr, bool) {
	s := string(bytes.TrimSpace(b))
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	if n := len(s); n > 2 && s[0] == '[' && s[n-1] == ']' {
		if addr, err := netip.ParseAddr(s[1 : n-1]); err == nil && addr.Is6() {
			return addr.Unmap().WithZone(""), true
		}
	}
	return netip.Addr{}, false
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// peerAddr is the other end of c; the zero address when c is no network
// connection.
func peerAddr(c net.Conn) netip.Addr {
	if tcp, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// encrypted tells whether there is TLS on c.
func encrypted(c net.Conn) bool {
	switch c := c.(type) {
	case interface{ Encrypted() bool }: // *sock.Conn
		return c.Encrypted()
	case *tls.Conn:
		return true
	}
	return false
}
