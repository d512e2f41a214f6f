package stream

import (
	"net/netip"
	"strconv"

	"weir/proxy/http1"
)

// forwarding says for whom a request is passed on.
type forwarding struct {
	Client Client
	ID     *RequestID
	// Upgrade keeps the WebSocket upgrade of a handshake, without extensions:
	// frames pass verbatim, and what is judged must be readable.
	Upgrade bool
	// Chunked says that the body is, so that it may have a trailer.
	Chunked bool
	// HTTP10 says that the client speaks it.
	HTTP10 bool
	// Identity asks for a body without content coding: framing is laid on the
	// bytes themselves, and a coded answer could not be reframed.
	Identity bool
	// Whole asks for the whole body: a range of what is framed anew is none of what
	// the client gets.
	Whole bool
	// Counted says that each hop takes one from Max-Forwards.
	Counted bool
}

// forward appends to lines the fields of src as the upstream is to see them, but
// for Host and for the framing, which are the upstream leg's (upstream.Request).
// src is what http1.Request.Parse accepted: its values are copied as they are.
//
//   - Hop-by-hop fields go, and what Connection lists (RFC 9110 §7.6.1); of TE
//     only trailers stays, which Connection lists then. Expect goes: Weir
//     answers it. Content-Length goes: the upstream leg has a framing of its own.
//   - X-Forwarded-For, -Proto, -Host and Forwarded (RFC 7239) are set from what
//     Weir saw. A trusted proxy's are extended, but for a Forwarded that is
//     disputed (Client) and an X-Real-IP that names somebody else; anyone else's are
//     dropped, with every other X-Forwarded-*, X-Real-IP and Proxy, also when
//     written with underscores, or dots and the like.
//   - X-Request-Id and traceparent are the ones of f.ID, and X_Request_Id goes; without
//     a valid traceparent there is no tracestate either.
//   - Max-Forwards is one less where it counts (RFC 9110 §7.6.2).
//   - Via names Weir, as RFC 9110 §7.6.3 asks of a gateway.
//   - All other fields are as the client sent them, in their order.
func (s *forwarder) forward(lines []byte, src *http1.Request, f forwarding) []byte {
	s.listed.b = s.listed.b[:0]
	s.lines = lines
	// When Connection lists fields of its own, some may be copied already: once
	// more then.
	for again := true; again; {
		s.lines = lines
		again = s.copyFields(src, &f)
	}
	s.addFields(src, &f)
	return s.lines
}

// line appends a field.
func (s *forwarder) line(name string, value []byte) {
	s.lines = append(append(s.lines, name...), ": "...)
	s.lines = append(append(s.lines, value...), "\r\n"...)
}

// forwarder rewrites the fields of requests, one after the other. Its memory is
// kept from one to the next.
type forwarder struct {
	lines                         []byte // what forward returns
	listed                        options
	trailers                      bool   // TE: trailers was sent
	trailer                       []byte // lines joined, as all of these
	forwarded, xfor, proto, xhost []byte // what a trusted proxy said
	value                         []byte
}

// copyFields copies what goes on as it is and gathers what is rewritten. It
// returns true when Connection listed fields that it did not know of before.
func (s *forwarder) copyFields(src *http1.Request, f *forwarding) (again bool) {
	known := len(s.listed.b) > 0
	s.trailers = false
	s.trailer, s.forwarded, s.xfor, s.proto, s.xhost = s.trailer[:0], s.forwarded[:0], s.xfor[:0], s.proto[:0], s.xhost[:0]
	for _, field := range src.Fields() {
		if hopByHop(field.Name) {
			switch {
			case foldEqual(field.Name, "connection") && !known:
				s.listed.add(field.Value)
			case foldEqual(field.Name, "te"):
				s.trailers = s.trailers || hasTrailers(field.Value)
			}
			continue
		}
		if s.rewritten(field.Name, field.Value, f) || (known && s.listed.has(field.Name)) {
			continue
		}
		s.lines = field.AppendTo(s.lines)
	}
	return !known && len(s.listed.b) > 0
}

// rewritten tells whether Weir drops a field or writes it itself; what it
// extends is gathered.
func (s *forwarder) rewritten(key, value []byte, f *forwarding) bool {
	switch lowerByte(key[0]) {
	case 'a':
		return f.Identity && foldEqual(key, "accept-encoding")
	case 'c':
		return foldEqual(key, "content-length")
	case 'e':
		return foldEqual(key, "expect")
	case 'f':
		if len(key) == len("forwarded") && http1.FoldField(key, "forwarded") {
			if f.Client.Trusted && !f.Client.Disputed && ended(value) {
				s.forwarded = appendLine(s.forwarded, value)
			}
			return true
		}
	case 'h': // that of an absolute target stands above the field
		return foldEqual(key, "host")
	case 'i':
		return f.Whole && foldEqual(key, "if-range")
	case 'm':
		if f.Counted && foldEqual(key, "max-forwards") {
			n, ok := hops(value)
			if ok {
				s.line("Max-Forwards", strconv.AppendUint(s.value[:0], n-1, 10))
			}
			return ok
		}
	case 'p': // CGI would take it for HTTP_PROXY
		return foldEqual(key, "proxy")
	case 'r':
		return f.Whole && foldEqual(key, "range")
	case 's':
		return f.Upgrade && foldEqual(key, "sec-websocket-extensions")
	case 't':
		if foldEqual(key, "trailer") {
			s.trailer = appendLine(s.trailer, value)
			return true
		}
		return foldEqual(key, "traceparent") || (foldEqual(key, "tracestate") && !f.ID.passed)
	case 'x':
		if http1.FoldField(key, "x-forwarded-") {
			return s.rewrittenForwarded(key, value, f)
		}
		if len(key) == len("x-real-ip") && http1.FoldField(key, "x-real-ip") {
			return !f.Client.mayBe(value)
		}
		return len(key) == len("x-request-id") && http1.FoldField(key, "x-request-id")
	}
	return false
}

// rewrittenForwarded is rewritten for the fields X-Forwarded-*.
func (s *forwarder) rewrittenForwarded(key, value []byte, f *forwarding) bool {
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

// goesOn tells whether a field of the request's trailer does, behind forward.
func (s *forwarder) goesOn(name []byte) bool {
	return !hopByHop(name) && !s.listed.has(name) && !namesRequest(name)
}

// namesRequest tells the fields that do, and that the upstream is to have from Weir alone.
func namesRequest(name []byte) bool {
	return len(name) == len("x-request-id") && http1.FoldField(name, "x-request-id") || foldEqual(name, "traceparent") || foldEqual(name, "tracestate")
}

// addFields appends what Weir says itself.
func (s *forwarder) addFields(src *http1.Request, f *forwarding) {
	proto := schemeHTTP
	if f.Client.TLS {
		proto = schemeHTTPS
	}
	host := src.Host

	// A trusted proxy that used only one of the two notations told about a
	// client that the other must name as well.
	peer := f.Client.Peer.IsValid()
	behind := peer && f.Client.Addr.IsValid() && f.Client.Addr != f.Client.Peer
	if len(s.xfor) == 0 && behind {
		s.xfor = f.Client.Addr.AppendTo(s.xfor)
	}
	if peer {
		s.xfor = f.Client.Peer.AppendTo(appendComma(s.xfor))
		s.line("X-Forwarded-For", s.xfor)
	}
	if len(s.proto) == 0 {
		s.proto = append(s.proto, proto...)
	}
	s.line("X-Forwarded-Proto", s.proto)
	if len(s.xhost) == 0 {
		s.xhost = append(s.xhost, host...)
	}
	if len(s.xhost) > 0 {
		s.line("X-Forwarded-Host", s.xhost)
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
	s.line("Forwarded", s.forwarded)

	s.line("X-Request-Id", f.ID.request[:f.ID.n])
	s.value = append(s.value[:0], f.ID.traceparent[:]...)
	if f.ID.passed {
		s.value = append(s.value[:0], src.Get("traceparent")...)
	}
	s.line("Traceparent", s.value)

	switch {
	case f.Upgrade:
		s.line("Connection", valueUpgrade)
		s.line("Upgrade", valueWebSocket)
	case s.trailers:
		s.line("Connection", valueTE) // RFC 9110 §10.1.4
		s.line("TE", valueTrailers)
	}
	if f.Identity {
		s.line("Accept-Encoding", valueIdentity)
	}
	if len(s.trailer) > 0 && f.Chunked {
		s.line("Trailer", s.trailer)
	}
	if f.HTTP10 {
		s.line("Via", valueVia10)
	} else {
		s.line("Via", valueVia11)
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
		if foldEqual(http1.TrimOWS(coding), "trailers") {
			return true
		}
	}
	return false
}

// Values of fields.
var (
	schemeHTTP     = []byte("http")
	schemeHTTPS    = []byte("https")
	valueIdentity  = []byte("identity")
	valueTE        = []byte("TE")
	valueTrailers  = []byte("trailers")
	valueUpgrade   = []byte("Upgrade")
	valueVia10     = []byte("1.0 weir")
	valueVia11     = []byte("1.1 weir")
	valueWebSocket = []byte("websocket")
)
