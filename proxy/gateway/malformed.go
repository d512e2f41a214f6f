package gateway

import (
	"time"

	"weir/hostabi"
	"weir/proxy/http1"
	"weir/proxy/policy"
	"weir/proxy/stream"
)

// refuseMalformed answers a request that could not be read, under ids of its own.
func (g *Gateway) refuseMalformed(x *http1.Exchange, e *http1.Error) {
	id := stream.NewRequestID(new(http1.Request), false)
	g.metrics.Fault(hostabi.ProtocolError).Inc()
	g.faults.Warn(time.Now(), "bad request", "code", string(hostabi.ProtocolError), "peer", x.Conn().RemoteAddr().String(),
		"status", e.Status, "error", e.Error(), "trace_id", id.TraceID(), "request_id", id.String())
	contentType, body := malformed(e.Status, e.Error(), id)
	x.Resp.Set("X-Request-Id", id.String())
	x.Resp.AddDate(time.Now())
	_ = x.Respond(e.Status, contentType, body)
}

// malformed is what a client is told whose request could not be read.
func malformed(status int, why string, id *stream.RequestID) (contentType string, body []byte) {
	env := native.Envelope(hostabi.ProtocolError, hostabi.HTTP, hostabi.ToUpstream)
	return env.ContentType, env.Append(nil, &policy.Values{
		Code: hostabi.ProtocolError, Message: why, Status: status, Limit: -1, Actual: -1, TraceID: id.TraceID(),
	})
}
