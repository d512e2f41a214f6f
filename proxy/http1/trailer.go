package http1

import "bytes"

// notInTrailers are the fields a trailer may not have: they frame, route,
// authenticate or describe the message (RFC 9110 §6.5.1).
var notInTrailers = []string{
	"authorization", "connection", "content-encoding", "content-length", "content-range", "content-type",
	"cookie", "expect", "host", "keep-alive", "location", "max-forwards", "proxy", "proxy-authenticate",
	"proxy-authorization", "proxy-connection", "range", "set-cookie", "te", "trailer", "transfer-encoding",
	"upgrade", "www-authenticate", "content_length", "transfer_encoding",
}

// notInTrailersPrefix are families of them, which say whom a message comes from, also
// when written with underscores, or dots and the like: many a server takes trailers for
// fields of the head.
var notInTrailersPrefix = []string{"forwarded", "x-forwarded", "x-real-ip"}

func allowedInTrailer(name []byte) bool {
	for _, s := range notInTrailers {
		if EqualFold(name, s) {
			return false
		}
	}
	for _, s := range notInTrailersPrefix {
		if FoldField(name, s) {
			return false
		}
	}
	return true
}

// checkTrailerNames checks the value of a Trailer field.
func checkTrailerNames(list []byte, line int) *Error {
	for len(list) > 0 {
		var item []byte
		if i := bytes.IndexByte(list, ','); i < 0 {
			item, list = list, nil
		} else {
			item, list = list[:i], list[i+1:]
		}
		item = TrimOWS(item)
		if !IsToken(item) {
			return bad(line, "a Trailer that is not a list of field names")
		}
		if !allowedInTrailer(item) {
			return bad(line, "a Trailer that names a field trailers may not have")
		}
	}
	return nil
}

// appendTrailer checks a trailer section, its blank line included, and appends
// it to dst as "Name: value\r\n" lines. What trailers may not have goes from that of an
// answer (RFC 9112 §7.1.2); a request is refused for it.
func appendTrailer(dst, section []byte, answer bool) ([]byte, *Error) {
	f := lines{rest: section, spaced: answer}
	for {
		field, ok, err := f.next()
		if err != nil {
			return dst, err.inTrailer()
		}
		if !ok {
			return dst, nil
		}
		if !allowedInTrailer(field.Name) {
			if answer {
				continue
			}
			return dst, &Error{Status: 400, Reason: "a trailer field that trailers may not have"}
		}
		dst = field.AppendTo(dst)
	}
}

// inTrailer says that the line was one of a trailer.
func (e *Error) inTrailer() *Error {
	return &Error{Status: e.Status, Reason: "in the trailer: " + e.Reason}
}
