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
	// Disputed: Forwarded names another client than X-Forwarded-For, from which Addr is.
	Disputed bool
}

// ClientOf tells who sent the request with the head h over c, when the peers in
// trusted are proxies whose forwarding fields are believed.
func ClientOf(c net.Conn, h *http1.Request, trusted []netip.Prefix) Client {
	peer := peerAddr(c)
	addr, disputed := clientAddr(peer, h, trusted)
	return Client{
		Addr:     addr,
		Peer:     peer,
		Trusted:  contains(trusted, peer),
		TLS:      encrypted(c),
		Disputed: disputed,
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

// mayBe tells whether a trusted proxy can have said of c that node is its address.
func (c *Client) mayBe(node []byte) bool {
	addr, ok := nodeAddr(node)
	return c.Trusted && (c.Addr == c.Peer || ok && addr == c.Addr)
}

// clientAddr is the address of the client behind peer: peer itself unless it is
// a trusted proxy, else the rightmost address of X-Forwarded-For that is not
// one. Forwarded (RFC 7239) counts only when there is no X-Forwarded-For: where it
// names another client (disputed), the proxy has passed on what it does not write. An
// entry that is no address ends the search at the proxy that reported it, and so
// does a line in which a quoted string does not end.
func clientAddr(peer netip.Addr, h *http1.Request, trusted []netip.Prefix) (addr netip.Addr, disputed bool) {
	if !contains(trusted, peer) {
		return peer, false
	}
	said, named := behind(peer, forwarded(h), trusted)
	nodes := forwardedFor(h)
	if len(nodes) == 0 {
		return said, false
	}
	addr, _ = behind(peer, nodes, trusted)
	return addr, named && said != addr
}

// behind is who stands behind peer, a trusted proxy, when nodes passed the request
// on, the client first; named: the last address found ends the search.
func behind(peer netip.Addr, nodes [][]byte, trusted []netip.Prefix) (addr netip.Addr, named bool) {
	for i := len(nodes) - 1; i >= 0; i-- {
		addr, ok := nodeAddr(nodes[i])
		if !ok {
			return peer, false
		}
		if peer = addr; !contains(trusted, peer) {
			break
		}
	}
	return peer, len(nodes) > 0
}

// forwardedFor lists the nodes of X-Forwarded-For.
func forwardedFor(h *http1.Request) (nodes [][]byte) {
	for _, line := range h.Values("x-forwarded-for") {
		nodes = append(nodes, bytes.Split(line, comma)...)
	}
	return nodes
}

// forwarded lists those of Forwarded.
func forwarded(h *http1.Request) (nodes [][]byte) {
	for _, line := range h.Values("forwarded") {
		if !ended(line) {
			nodes = append(nodes, unknown)
			continue
		}
		for element := range list(line, ',') {
			node := unknown // an element need not have a for=
			for pair := range list(element, ';') {
				name, value, _ := bytes.Cut(pair, equals)
				if foldEqual(http1.TrimOWS(name), "for") {
					node = bytes.Trim(http1.TrimOWS(value), `"`)
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
	s := string(http1.TrimOWS(b))
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
