package stream

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"weir/hostabi"
	"weir/proxy/http1"
)

// cleanResponse removes the hop-by-hop fields of an upstream's answer, and notes what
// Connection lists. One without a Date gets that of now (RFC 9110 §6.6.1).
func cleanResponse(h *http1.Response, listed *options, now time.Time) {
	removeHops(h, listed)
	if h.Get("date") == nil {
		h.AddDate(now)
	}
}

// RemoveHops removes the hop-by-hop fields of an upstream's answer and what its
// Connection lists, but for the Upgrade of a 101 or a 426, which must have one
// (RFC 9110 §15.2.2, §15.5.22).
func RemoveHops(h *http1.Response) {
	removeHops(h, new(options))
}

func removeHops(h *http1.Response, listed *options) {
	listed.b = listed.b[:0]
	for _, f := range h.Fields() {
		if foldEqual(f.Name, "connection") {
			listed.add(f.Value)
		}
	}
	required := h.Status == http.StatusSwitchingProtocols || h.Status == http.StatusUpgradeRequired
	h.Remove(func(name []byte) bool {
		return hopByHop(name) && !(required && foldEqual(name, "upgrade")) || listed.has(name)
	})
}

// passInterim passes an upstream's interim answer on (RFC 9110 §15.2).
func (c *carriage) passInterim() error {
	RemoveHops(&c.x.Resp)
	return c.x.Interim()
}

// coding is how the body of an answer is coded; empty: it is not.
func coding(h *http1.Response) []byte {
	for _, value := range h.Values("content-encoding") {
		if len(value) > 0 && !foldEqual(value, "identity") {
			return value
		}
	}
	return nil
}

// reframed removes what is true only of the bytes that the upstream sent.
func reframed(h *http1.Response) { h.Remove(ofBytes) }

// ofBytes tells the fields that are.
func ofBytes(name []byte) bool {
	for _, n := range [...]string{"accept-ranges", "content-digest", "content-md5", "digest", "etag", "repr-digest"} {
		if foldEqual(name, n) {
			return true
		}
	}
	return false
}

// appendTrailer appends the lines of an upstream's trailer without hop-by-hop fields;
// when the body is framed anew, without what is true only of the bytes that the upstream
// sent.
func (c *carriage) appendTrailer(dst, lines []byte) []byte {
	return appendLines(dst, lines, func(name []byte) bool {
		return !hopByHop(name) && !c.listed.has(name) && !(c.framing.changes() && ofBytes(name))
	})
}

// appendLines appends the lines of a trailer that may go on.
func appendLines(dst, lines []byte, goesOn func(name []byte) bool) []byte {
	for line := range bytes.Lines(lines) {
		if name, _, _ := bytes.Cut(line, []byte{':'}); goesOn(name) {
			dst = append(dst, line...)
		}
	}
	return dst
}

// errorBodyWait is how long an error answer may wait for the beginning of its body,
// which the policy is shown: most servers send it right behind the head.
const errorBodyWait = 100 * time.Millisecond

// classify asks the policy about an upstream's error answer, with the first
// piece of its body, if it is here in time, which it returns. When the policy calls it retryable and
// says when, and the upstream has not, Retry-After is added. Nothing else of
// the answer changes.
func (c *carriage) classify() (first []byte, err error) {
	h := &c.x.Resp
	if len(h.Get("retry-after")) > 0 {
		return nil, nil
	}
	if body := c.up.Body; body != nil {
		if c.up.AwaitBody(errorBodyWait); body.Buffered() > 0 {
			first, err = body.Next()
		}
	}
	in := hostabi.FaultInput{Status: uint16(c.up.Info.Status), Body: first}
	c.x.Leave() // a guest may compute for long
	if name := c.route.View.ErrorTypeHeader(); name != "" {
		in.ErrorType = string(h.Get(name))
	}
	if f := c.route.View.UpstreamFault(&in); f.Retryable && f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(ceil(f.RetryAfter, time.Second), 10))
	}
	return first, err
}

// log writes the exchange's line, at debug level, when that is logged.
func (c *carriage) log(start time.Time, status int, err error) {
	attrs := make([]slog.Attr, 0, 10)
	attrs = appendRequest(append(attrs, slog.String("route", c.route.Name)), c.x, c.client)
	attrs = append(attrs,
		slog.Int("status", status),
		slog.Int64("bytes", c.x.BytesWritten()),
		slog.Float64("duration_ms", float64(time.Since(start).Microseconds())/1000),
		slog.String("trace_id", c.id.TraceID()),
		slog.String("request_id", c.id.String()),
	)
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	c.proxy.Log.LogAttrs(context.Background(), slog.LevelDebug, "http exchange", attrs...)
}

// appendRequest appends what a line of the log says of the request in x.
func appendRequest(attrs []slog.Attr, x *http1.Exchange, client Client) []slog.Attr {
	return append(attrs,
		slog.String("peer", client.LogName(x.Conn())), slog.String("method", string(x.Req.Method)), slog.String("path", string(path(&x.Req))))
}

// path is the target of a request without its query, which may hold secrets.
func path(h *http1.Request) []byte {
	p, _, _ := bytes.Cut(h.Target, question)
	return p
}

var question = []byte{'?'}
