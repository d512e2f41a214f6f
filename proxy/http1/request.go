package http1

import "bytes"

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
	Absolute      bool // the target was in absolute form: Host and target come from it

	authority, target []byte // of the absolute form; they point into the head
}

// HasBody tells whether a body follows the head.
func (i *RequestInfo) HasBody() bool { return i.Chunked || i.ContentLength > 0 }

// CheckRequestHead checks a whole head, its final blank line included: what it
// accepts, every reader of HTTP/1.1 understands alike. The error is an *Error.
//
// Stricter than RFC 9112 asks, on purpose: lines end in CRLF only, no empty
// line before the request line, no folding, Content-Length once and
// Transfer-Encoding "chunked" once and never both, one valid Host (which an
// absolute-form target overrides), no bytes above ASCII in the target. CONNECT
// is 501, an unknown expectation 417, another version 505.
func CheckRequestHead(head []byte) (RequestInfo, error) {
	i := RequestInfo{ContentLength: -1}
	if err := i.check(head); err != nil {
		return RequestInfo{ContentLength: -1}, err
	}
	return i, nil
}

func (i *RequestInfo) check(head []byte) *Error {
	f := fields{rest: head}
	line, err := f.nextLine()
	if err != nil {
		return err
	}
	method, err := i.requestLine(line)
	if err != nil {
		return err
	}
	var m framing
	host := false
	for {
		name, value, ok, err := f.next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		switch {
		case equalFold(name, "host"):
			if host {
				return bad(f.line, "a second Host")
			}
			if host = true; !validHost(value) {
				return bad(f.line, "a Host that is not host[:port]")
			}
		case equalFold(name, "expect"):
			if !equalFold(value, "100-continue") {
				return &Error{Status: 417, Reason: "an expectation other than 100-continue", Line: f.line}
			}
			i.Expect100 = true
		default:
			if err := m.field(name, value, f.line); err != nil {
				return err
			}
		}
	}
	if len(f.rest) > 0 {
		return bad(f.line, "bytes behind the blank line")
	}
	if !host && !i.HTTP10 {
		return bad(0, "HTTP/1.1 without Host")
	}
	return i.conclude(&m, method)
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

// requestLine checks method SP target SP version.
func (i *RequestInfo) requestLine(line []byte) (method []byte, err *Error) {
	if len(line) == 0 {
		return nil, bad(1, "an empty line before the request line")
	}
	sp := bytes.IndexByte(line, ' ')
	if sp <= 0 {
		return nil, bad(1, "a request line without a target")
	}
	method, line = line[:sp], line[sp+1:]
	if !all(method, isToken) {
		return nil, bad(1, "a method that is not a token")
	}
	sp = bytes.IndexByte(line, ' ')
	if sp < 0 {
		return nil, bad(1, "a request line without a version")
	}
	target, version := line[:sp], line[sp+1:]
	switch {
	case string(version) == "HTTP/1.1":
	case string(version) == "HTTP/1.0":
		i.HTTP10 = true
	case len(version) == 8 && string(version[:5]) == "HTTP/" && isDigit(version[5]) && version[6] == '.' && isDigit(version[7]):
		return nil, &Error{Status: 505, Reason: "a version other than HTTP/1.0 and HTTP/1.1", Line: 1}
	default:
		return nil, bad(1, "a request line that does not end in HTTP/1.1 or HTTP/1.0")
	}
	if string(method) == "CONNECT" {
		return nil, &Error{Status: 501, Reason: "CONNECT, which this server does not do", Line: 1}
	}
	return method, i.checkTarget(method, target)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
