package http1

import "bytes"

// Request is the head of a request. Its bytes are valid until Reset.
type Request struct {
	Method []byte
	Target []byte // path and query, or *; of an absolute form what is behind its authority
	Host   []byte // the authority of an absolute form, else the Host field's value, without an empty port; empty: there is none. The field has it, too
	Header
}

// Reset makes r empty.
func (r *Request) Reset() {
	r.Method, r.Target, r.Host = nil, nil, nil
	r.Header.Reset()
}

// RequestInfo is what the head of a request says about its message and its
// connection.
type RequestInfo struct {
	ContentLength int64 // bytes; -1: none was given
	Chunked       bool
	HTTP10        bool
	Close         bool // the connection ends after the answer
	KeepAlive10   bool // HTTP/1.0 that asked for keep-alive
	Upgrade       bool // a GET of HTTP/1.1 with Connection: upgrade and Upgrade: websocket
	Expect100     bool // the client waits for 100 (Continue) before its body
	Absolute      bool // the target was in absolute form: Host and Target come from it
	HTTPS         bool // an absolute form with the scheme https
}

// HasBody tells whether a body follows the head.
func (i *RequestInfo) HasBody() bool { return i.Chunked || i.ContentLength > 0 }

// Parse reads a whole head, its final blank line included, and keeps a copy of
// it. What it accepts, every reader of HTTP/1.1 understands alike. The error is
// an *Error.
//
// Stricter than RFC 9112 asks, on purpose: lines end in CRLF only, no empty
// line before the request line, no folding, Content-Length once and
// Transfer-Encoding "chunked" once and never both, one valid Host (which an
// absolute-form target overrides), no bytes above ASCII in the target. CONNECT
// is 501, an unknown expectation 417, another version 505.
func (r *Request) Parse(head []byte) (RequestInfo, error) {
	r.Host = nil
	i := RequestInfo{ContentLength: -1}
	if err := r.parse(r.keep(head), &i); err != nil {
		r.Reset()
		return RequestInfo{ContentLength: -1}, err
	}
	return i, nil
}

func (r *Request) parse(head []byte, i *RequestInfo) *Error {
	f := lines{rest: head}
	line, err := f.nextLine()
	if err != nil {
		return err
	}
	if err := r.requestLine(line, i); err != nil {
		return err
	}
	var m framing
	host := -1 // where in fields it is
	for {
		field, ok, err := f.next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		r.fields = append(r.fields, field)
		switch len(field.Name) {
		case len("host"):
			if !EqualFold(field.Name, "host") {
				break
			}
			if host >= 0 {
				return bad(f.line, "a second Host")
			}
			host = len(r.fields) - 1
			value, ok := authority(field.Value)
			if !ok {
				return bad(f.line, "a Host that is not host[:port]")
			}
			if !i.Absolute {
				r.Host = value
			}
		case len("expect"):
			if !EqualFold(field.Name, "expect") {
				break
			}
			if !EqualFold(field.Value, "100-continue") {
				return &Error{Status: 417, Reason: "an expectation other than 100-continue", Line: f.line}
			}
			i.Expect100 = true
		default:
			if err := m.field(field, f.line); err != nil {
				return err
			}
		}
	}
	if len(f.rest) > 0 {
		return bad(f.line, "bytes behind the blank line")
	}
	switch { // who looks at the field sees what is forwarded
	case host >= 0:
		r.fields[host].Value = r.Host
	case !i.HTTP10:
		return bad(0, "HTTP/1.1 without Host")
	case i.Absolute:
		r.fields = append(r.fields, Field{[]byte("Host"), r.Host})
	}
	return i.conclude(&m, r.Method)
}

// conclude draws from the fields what holds for the message.
func (i *RequestInfo) conclude(m *framing, method []byte) *Error {
	if m.chunked && i.HTTP10 {
		return bad(0, "Transfer-Encoding in HTTP/1.0")
	}
	i.Chunked = m.chunked
	if m.hasLength {
		i.ContentLength = m.length
	}
	if i.HTTP10 {
		i.Expect100 = false // RFC 9110 §10.1.1
		i.KeepAlive10 = m.keepAlive && !m.close
		i.Close = !i.KeepAlive10
		return nil
	}
	i.Expect100 = i.Expect100 && i.HasBody()
	i.Close = m.close
	if m.upgrade && m.upgradesWS {
		if i.HasBody() {
			return bad(0, "an upgrade to websocket with a body")
		}
		i.Upgrade = string(method) == "GET"
	}
	return nil
}

// requestLine reads method SP target SP version.
func (r *Request) requestLine(line []byte, i *RequestInfo) *Error {
	sp := bytes.IndexByte(line, ' ')
	if sp <= 0 {
		return bad(1, "a request line without a target")
	}
	r.Method, line = line[:sp], line[sp+1:]
	if !IsToken(r.Method) {
		return bad(1, "a method that is not a token")
	}
	sp = bytes.IndexByte(line, ' ')
	if sp < 0 {
		return bad(1, "a request line without a version")
	}
	target, version := line[:sp], line[sp+1:]
	switch {
	case string(version) == "HTTP/1.1":
	case string(version) == "HTTP/1.0":
		i.HTTP10 = true
	case len(version) == 8 && string(version[:5]) == "HTTP/" && isDigit(version[5]) && version[6] == '.' && isDigit(version[7]):
		return &Error{Status: 505, Reason: "a version other than HTTP/1.0 and HTTP/1.1", Line: 1}
	default:
		return bad(1, "a request line that does not end in HTTP/1.1 or HTTP/1.0")
	}
	if string(r.Method) == "CONNECT" {
		return &Error{Status: 501, Reason: "CONNECT, which this server does not do", Line: 1}
	}
	r.Target = target
	return r.checkTarget(i)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
