package stream

import (
	"bytes"
	"net/netip"
	"sync"

	"github.com/valyala/fasthttp"
)

// Forwarding says for whom a request is passed on.
type Forwarding struct {
	Client Client
	ID     *RequestID
	// Upgrade keeps the WebSocket upgrade of a handshake, without extensions:
	// frames pass verbatim, and what is judged must be readable.
	Upgrade bool
	// Identity asks for a body without content coding: framing is laid on the
	// bytes themselves, and a coded answer could not be reframed.
	Identity bool
}

// Forward writes to dst and lines the request src as the upstream is to see it:
// lines is what goes behind dst's own fields (upstream.Request). src is only
// read, and must have passed http1.CheckRequestHead: its values are copied as
// they are.
//
//   - Hop-by-hop fields go, and what Connection lists (RFC 9110 §7.6.1); of TE
//     only trailers stays. Expect goes: Weir answers it. Content-Length goes:
//     the upstream leg has a framing of its own.
//   - X-Forwarded-For, -Proto, -Host and Forwarded (RFC 7239) are set from what
//     Weir saw. A trusted proxy's are extended; anyone else's are dropped,
//     with every other X-Forwarded-*, X-Real-IP and Proxy, also when written
//     with underscores.
//   - X-Request-Id and traceparent are the ones of f.ID; without a valid
//     traceparent there is no tracestate either.
//   - Via names Weir, as RFC 9110 §7.6.3 asks of a gateway.
//   - Host is the one the client asked for; all other fields are as it sent
//     them, in their order.
//
// Only Host and Trailer are in dst. Lines keep cookies and the order to the byte,
// and cost a third of adding each field to a fasthttp header and serialising it.
func Forward(dst *fasthttp.RequestHeader, lines []byte, src *fasthttp.RequestHeader, f Forwarding) []byte {
	s := scratches.Get().(*scratch)
	s.listed.b = s.listed.b[:0]
	s.lines = lines
	// When Connection lists fields of its own, some may be copied already: once
	// more then.
	for again := true; again; {
		s.lines = lines
		again = s.copyFields(src, &f)
	}
	s.addFields(src, &f)
	dst.Reset()
	dst.SetNoDefaultContentType(true)
	dst.SetMethodBytes(src.Method())
	dst.SetRequestURIBytes(src.RequestURI())
	dst.SetProtocol("HTTP/1.1")
	dst.SetHostBytes(src.Host())
	if len(s.trailer) > 0 {
		_ = dst.SetTrailerBytes(s.trailer) // less what may not be a trailer
	}
	lines, s.lines = s.lines, nil
	scratches.Put(s)
	return lines
}

// line appends a field.
func (s *scratch) line(name, value []byte) {
	s.lines = append(append(s.lines, name...), ": "...)
	s.lines = append(append(s.lines, value...), "\r\n"...)
}

// scratch is the memory of one Forward.
type scratch struct {
	lines                         []byte // what Forward returns
	listed                        options
	trailers                      bool   // TE: trailers was sent
	trailer                       []byte // lines joined, as all of these
	forwarded, xfor, proto, xhost []byte // what a trusted proxy said
	value                         []byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// copyFields copies what goes on as it is and gathers what is rewritten. It
// returns true when Connection listed fields that it did not know of before.
func (s *scratch) copyFields(src *fasthttp.RequestHeader, f *Forwarding) (again bool) {
	known := len(s.listed.b) > 0
	s.trailers = false
	s.trailer, s.forwarded, s.xfor, s.proto, s.xhost = s.trailer[:0], s.forwarded[:0], s.xfor[:0], s.proto[:0], s.xhost[:0]
	for key, value := range src.AllInOrder() {
		if hopByHop(key) {
			switch {
			case foldEqual(key, "connection") && !known:
				s.listed.add(value)
			case foldEqual(key, "te"):
				s.trailers = s.trailers || hasTrailers(value)
			}
			continue
		}
		if s.rewritten(key, value, f) || (known && s.listed.has(key)) {
			continue
		}
		s.line(key, value)
	}
	return !known && len(s.listed.b) > 0
}

// rewritten tells whether Weir drops a field or writes it itself; what it
// extends is gathered.
func (s *scratch) rewritten(key, value []byte, f *Forwarding) bool {
	switch lowerByte(key[0]) {
	case 'a':
		return f.Identity && foldEqual(key, "accept-encoding")
	case 'c':
		return foldEqual(key, "content-length")
	case 'e':
		return foldEqual(key, "expect")
	case 'f':
		if len(key) == len("forwarded") && foldFields(key, "forwarded") {
			if f.Client.Trusted {
				s.forwarded = appendLine(s.forwarded, value)
			}
			return true
		}
	case 'h': // that of an absolute target stands above the field
		return foldEqual(key, "host")
	case 'p': // CGI would take it for HTTP_PROXY
		return foldEqual(key, "proxy")
	case 's':
		return f.Upgrade && foldEqual(key, "sec-websocket-extensions")
	case 't':
		if foldEqual(key, "trailer") {
			s.trailer = appendLine(s.trailer, value)
			return true
		}
		return foldEqual(key, "traceparent") || (foldEqual(key, "tracestate") && !f.ID.passed)
	case 'x':
		if foldFields(key, "x-forwarded-") {
			return s.rewrittenForwarded(key, value, f)
		}
		return foldEqual(key, "x-request-id") || (!f.Client.Trusted && len(key) == len("x-real-ip") && foldFields(key, "x-real-ip"))
	}
	return false
}

// rewrittenForwarded is rewritten for the fields X-Forwarded-*.
func (s *scratch) rewrittenForwarded(key, value []byte, f *Forwarding) bool {
	switch {
	case !f.Client.Trusted, !foldPrefix(key, "x-forwarded-"):
		return true
	case foldEqual(key, "x-forwarded-for"):
		s.xfor = appendLine(s.xfor, value)
	case foldEqual(key, "x-forwarded-proto"):
		s.proto = appendLine(s.proto, value)
	case foldEqual(key, "x-forwarded-host"):
		s.xhost = appendLine(s.xhost, value)
	default:
		return false
	}
	return true
}

// addFields appends what Weir says itself.
func (s *scratch) addFields(src *fasthttp.RequestHeader, f *Forwarding) {
	proto := schemeHTTP
	if f.Client.TLS {
		proto = schemeHTTPS
	}
	host := src.Host()

	if len(host) == 0 { // HTTP/1.0 may send none (RFC 9112 §3.2)
		s.line(keyHost, nil)
	}

	// A trusted proxy that used only one of the two notations told about a
	// client that the other must name as well.
	peer := f.Client.Peer.IsValid()
	behind := peer && f.Client.Addr.IsValid() && f.Client.Addr != f.Client.Peer
	if len(s.xfor) == 0 && behind {
		s.xfor = f.Client.Addr.AppendTo(s.xfor)
	}
	if peer {
		s.xfor = f.Client.Peer.AppendTo(appendComma(s.xfor))
		s.line(keyForwardedFor, s.xfor)
	}
	if len(s.proto) == 0 {
		s.proto = append(s.proto, proto...)
	}
	s.line(keyForwardedProto, s.proto)
	if len(s.xhost) == 0 {
		s.xhost = append(s.xhost, host...)
	}
	if len(s.xhost) > 0 {
		s.line(keyForwardedHost, s.xhost)
	}

	if len(s.forwarded) == 0 && behind {
		s.forwarded = appendNode(s.forwarded, f.Client.Addr)
	}
	s.forwarded = appendComma(s.forwarded)
	if peer {
		s.forwarded = append(appendNode(s.forwarded, f.Client.Peer), ';')
	}
	if len(host) > 0 {
		s.forwarded = append(appendValue(append(s.forwarded, "host="...), host), ';')
	}
	s.forwarded = append(append(s.forwarded, "proto="...), proto...)
	s.line(keyForwarded, s.forwarded)

	s.line(keyRequestID, f.ID.request[:f.ID.n])
	s.value = append(s.value[:0], f.ID.traceparent[:]...)
	if f.ID.passed {
		s.value = append(s.value[:0], src.PeekBytes(keyTraceparent)...)
	}
	s.line(keyTraceparent, s.value)

	switch {
	case f.Upgrade:
		s.line(keyConnection, keyUpgrade)
		s.line(keyUpgrade, valueWebSocket)
	case s.trailers: // Connection is written by the upstream leg
		s.line(keyTE, valueTrailers)
	}
	if f.Identity {
		s.line(keyAcceptEncoding, valueIdentity)
	}
	if src.IsHTTP11() {
		s.line(keyVia, valueVia11)
	} else {
		s.line(keyVia, valueVia10)
	}
}

// appendNode appends the for= pair of an address (RFC 7239 §6): IPv6 stands in
// brackets, and so in quotes.
func appendNode(dst []byte, addr netip.Addr) []byte {
	dst = append(dst, "for="...)
	if !addr.Is6() {
		return addr.AppendTo(dst)
	}
	return append(addr.AppendTo(append(dst, `"[`...)), `]"`...)
}

// appendLine joins the lines of one field (RFC 9110 §5.3).
func appendLine(dst, line []byte) []byte {
	if len(line) == 0 {
		return dst
	}
	return append(appendComma(dst), line...)
}

func appendComma(dst []byte) []byte {
	if len(dst) > 0 {
		dst = append(dst, ", "...)
	}
	return dst
}

// hasTrailers tells whether a TE line says that trailers are welcome.
func hasTrailers(line []byte) bool {
	for coding := range list(line, ',') {
		if foldEqual(bytes.TrimSpace(coding), "trailers") {
			return true
		}
	}
	return false
}

// Field names in the form that fasthttp compares, and values.
var (
	keyAcceptEncoding = []byte("Accept-Encoding")
	keyConnection     = []byte("Connection")
	keyForwarded      = []byte("Forwarded")
	keyForwardedFor   = []byte("X-Forwarded-For")
	keyForwardedHost  = []byte("X-Forwarded-Host")
	keyForwardedProto = []byte("X-Forwarded-Proto")
	keyHost           = []byte("Host")
	keyRequestID      = []byte("X-Request-Id")
	keyTE             = []byte("Te")
	keyTraceparent    = []byte("Traceparent")
	keyUpgrade        = []byte("Upgrade")
	keyVia            = []byte("Via")

	schemeHTTP     = []byte("http")
	schemeHTTPS    = []byte("https")
	valueIdentity  = []byte("identity")
	valueTrailers  = []byte("trailers")
	valueVia10     = []byte("1.0 weir")
	valueVia11     = []byte("1.1 weir")
	valueWebSocket = []byte("websocket")
)
