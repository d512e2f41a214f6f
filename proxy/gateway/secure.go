package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"weir/hostabi"
	"weir/proxy/http1"
	"weir/proxy/stream"
)

// notSecure tells of a TLS handshake that failed, and answers a client that
// speaks HTTP without TLS. Nothing is said of clients that leave, or are silent
// until handshake_timeout: probes of load balancers do that all day. One that has
// begun by then is too slow, as one that has begun a request is (408), unless a
// drain ended its time.
func (c *clientConn) notSecure(err error) {
	op, _ := errors.AsType[*net.OpError](err)
	switch _, system := errors.AsType[net.Error](err); {
	case errors.Is(err, os.ErrDeadlineExceeded) && c.Heard() && !c.g.isDraining():
		c.g.metrics.Fault(hostabi.ProtocolError).Inc()
		err = fmt.Errorf("no whole handshake in %v (handshake_timeout)", c.g.current.Load().cfg.Limits.HandshakeTimeout)
	case op != nil && op.Op == "remote error": // an alert (RFC 8446 §6): the client refuses
	case op != nil && op.Op == "local error": // an alert that was sent
		c.g.metrics.Fault(hostabi.ProtocolError).Inc()
	case system, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return
	default:
		c.g.metrics.Fault(hostabi.ProtocolError).Inc()
	}
	attrs := []any{"peer", c.RemoteAddr().String(), "error", err.Error()}
	e, ok := errors.AsType[tls.RecordHeaderError](err)
	if !ok || e.Conn == nil || !speaksHTTP(e.RecordHeader) {
		c.g.faults.Warn(time.Now(), "tls handshake failed", attrs...)
		return
	}
	id := stream.NewRequestID(new(http1.Request), false)
	c.g.faults.Warn(time.Now(), "tls handshake failed", append(attrs, "trace_id", id.TraceID(), "request_id", id.String())...)
	c.answerInClear(id)
}

// speaksHTTP tells whether what should be a TLS record begins like a request.
func speaksHTTP(b [5]byte) bool {
	switch string(b[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH":
		return true
	}
	return false
}

const (
	clearWait  = time.Second // for the rest of a request in clear
	clearBytes = 64 << 10    // of it, at most
)

// answerInClear says over plain TCP that TLS is spoken here. What the client
// still sends is read for a moment: a connection that is closed with bytes unread
// is reset, and the answer could be lost.
func (c *clientConn) answerInClear(id *stream.RequestID) {
	const why = "plain HTTP on a listener that speaks TLS; use https: or wss:"
	contentType, body := malformed(http.StatusBadRequest, why, id)
	tcp := c.Clear()
	now := time.Now()
	_ = tcp.SetDeadline(now.Add(clearWait))
	if _, err := fmt.Fprintf(tcp, "HTTP/1.1 400 Bad Request\r\nX-Request-Id: %s\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		id, now.UTC().Format(http.TimeFormat), contentType, len(body), body); err != nil {
		return
	}
	_ = tcp.CloseWrite()
	_, _ = io.CopyN(io.Discard, tcp, clearBytes)
}
