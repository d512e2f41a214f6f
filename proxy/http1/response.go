package http1

// Response is the head of a response. Its bytes are valid until Reset.
type Response struct {
	Status int    // 0 is 200
	Reason []byte // empty: the status's usual one
	Header
}

// Reset makes r empty.
func (r *Response) Reset() {
	r.Status, r.Reason = 0, nil
	r.Header.Reset()
}

// ResponseInfo is what the head of a response says about its message and its
// connection.
type ResponseInfo struct {
	Status        int
	ContentLength int64 // bytes; -1: unknown
	Chunked       bool
	Close         bool // the connection ends with this response
	NoBody        bool // HEAD, 1xx, 204, 304
}

// Parse reads a whole head, its final blank line included, and keeps a copy of
// it; method is the request's. The error is an *Error. The rules for fields are
// those of Request.Parse, but that white space before a colon goes (RFC 9112 §5.1), and
// a Trailer that names what trailers may not have.
func (r *Response) Parse(head, method []byte) (ResponseInfo, error) {
	i := ResponseInfo{ContentLength: -1}
	if err := r.parse(r.keep(head), method, &i); err != nil {
		r.Reset()
		return ResponseInfo{ContentLength: -1}, err
	}
	return i, nil
}

func (r *Response) parse(head, method []byte, i *ResponseInfo) *Error {
	f := lines{rest: head, spaced: true}
	line, err := f.nextLine()
	if err != nil {
		return err
	}
	http10, err := r.statusLine(line)
	if err != nil {
		return err
	}
	i.Status = r.Status
	var m framing
	for {
		field, ok, err := f.next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if EqualFold(field.Name, "trailer") && checkTrailerNames(field.Value, f.line) != nil {
			continue // what it tells ahead goes (appendTrailer)
		}
		r.fields = append(r.fields, field)
		if err := m.field(field, f.line); err != nil {
			return err
		}
	}
	if len(f.rest) > 0 {
		return bad(f.line, "bytes behind the blank line")
	}
	if m.chunked && http10 {
		return bad(0, "Transfer-Encoding in HTTP/1.0")
	}
	i.conclude(&m, method, http10)
	return nil
}

func (i *ResponseInfo) conclude(m *framing, method []byte, http10 bool) {
	i.Chunked = m.chunked
	if m.hasLength {
		i.ContentLength = m.length
	}
	i.Close = m.close || http10 && !m.keepAlive
	bodiless := i.Status < 200 || i.Status == 204
	i.NoBody = bodiless || i.Status == 304 || string(method) == "HEAD"
	switch {
	case bodiless && (m.chunked || m.length > 0):
		// It announced a body that it may not have: whether bytes follow is
		// anyone's guess, so the connection is not used again.
		i.Close = true
	case !i.NoBody && !m.chunked && !m.hasLength:
		i.Close = true // the body ends with the connection
	}
}

// statusLine reads version SP status SP reason; the second space may be
// missing when there is no reason.
func (r *Response) statusLine(line []byte) (http10 bool, err *Error) {
	const version = "HTTP/1.x "
	if len(line) < len(version)+3 || string(line[:7]) != "HTTP/1." || line[7] != '0' && line[7] != '1' || line[8] != ' ' {
		return false, bad(1, "a status line that does not begin with HTTP/1.1 or HTTP/1.0 and a status")
	}
	status := line[len(version) : len(version)+3]
	for _, c := range status {
		if !isDigit(c) {
			return false, bad(1, "a status that is not three digits")
		}
	}
	r.Status = int(status[0]-'0')*100 + int(status[1]-'0')*10 + int(status[2]-'0')
	if r.Status < 100 || r.Status > 599 {
		return false, bad(1, "a status outside 100 to 599")
	}
	reason := line[len(version)+3:]
	if len(reason) > 0 && reason[0] != ' ' {
		return false, bad(1, "a status that is not three digits")
	}
	if !all(reason, isValue) {
		return false, bad(1, "a control character in the reason")
	}
	r.Reason = TrimOWS(reason)
	return line[7] == '0', nil
}
