package stream

import "weir/hostabi"

// framing is how the body of an answer is laid on the two legs. The zero
// framing leaves it alone.
type framing struct {
	client, upstream hostabi.Framing
	max              int64 // payload bytes of one frame, on both legs
}

// active tells whether frames matter at all.
func (f framing) active() bool { return f.client == hostabi.FramedV1 || f.upstream == hostabi.FramedV1 }

// pass tells whether both legs are framed: frames are counted and checked.
func (f framing) pass() bool {
	return f.client == hostabi.FramedV1 && f.upstream == hostabi.FramedV1
}

// changes tells whether the bytes of the body change.
func (f framing) changes() bool { return f.client != f.upstream }

// applies tells whether an answer of this status is the stream that the policy
// spoke of: errors, redirects and parts of it are not.
func (f framing) applies(status int) bool {
	return f.active() && status >= 200 && status < 300 && status != 206
}

// streams tells the methods whose answers may be streams.
func streams(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "POST":
		return true
	}
	return false
}

// asksFraming tells whether the policy is asked how the legs of x are framed.
func (c *carriage) asksFraming() bool {
	return !c.req.Upgrade && c.route.View.NeedsFraming() && streams(c.x.Req.Method)
}

// vary names in an answer that is no error what its framing depends on (RFC 9110
// §12.5.5): a cache would give it to clients that speak another.
func (c *carriage) vary(status int) {
	if status < 400 && c.asksFraming() {
		for _, name := range c.route.View.FramingHeaders() {
			c.x.Resp.Add("Vary", name)
		}
	}
}

// askFraming asks the policy how the legs of x are framed. The answers of other
// methods than GET, HEAD and POST tell how something went (RFC 9110 §9.3); they
// are no streams.
func (c *carriage) askFraming() (f framing) {
	v, h := c.route.View, &c.x.Req
	if !c.asksFraming() {
		return f
	}
	in := hostabi.FramingInput{Transport: hostabi.HTTP, Path: string(path(h))}
	for _, name := range v.FramingHeaders() {
		for _, value := range h.Values(name) {
			in.Headers = append(in.Headers, hostabi.Header{Name: name, Value: string(value)})
		}
	}
	out := v.Framing(c.x, &in)
	f = framing{client: out.Client, upstream: out.Upstream, max: c.route.Limits.MaxFrameSize}
	if n := int64(out.MaxFrameSize); n > 0 && n < f.max {
		f.max = n
	}
	return f
}
