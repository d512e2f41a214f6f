package stream

import (
	"slices"
	"strconv"
	"time"

	"weir/proxy/http1"
)

// hops reads a Max-Forwards (RFC 9110 §7.6.2); false: it is no number.
func hops(value []byte) (n uint64, ok bool) {
	n, err := strconv.ParseUint(string(value), 10, 64)
	return n, err == nil
}

// counted reports whether Max-Forwards counts for the request's method.
func counted(r *http1.Request) bool {
	return string(r.Method) == "OPTIONS" || string(r.Method) == "TRACE"
}

// goesNoFurther reports whether the request may not be forwarded any more.
func goesNoFurther(r *http1.Request) bool {
	return counted(r) && slices.ContainsFunc(r.Values("max-forwards"), func(value []byte) bool {
		n, ok := hops(value)
		return ok && n == 0
	})
}

// AnswerHere answers an OPTIONS or TRACE that goes no further, as the last to get
// it. What came is not sent back to who asks by TRACE: others may have added to it.
func (p *Proxy) AnswerHere(x *http1.Exchange) {
	status := 204
	if string(x.Req.Method) == "TRACE" {
		status = 501
	}
	if p.Metrics != nil {
		p.Metrics.HTTPRequests(status).Inc()
	}
	x.Resp.AddDate(time.Now())
	_ = x.Respond(status, "", nil) // a client that has left is not there to be told
}
