package stream

import (
	"bytes"
	"context"
	"log/slog"
	"strconv"
	"time"

	"weir/hostabi"

	"github.com/valyala/fasthttp"
)

// cleanResponse removes the hop-by-hop fields of an upstream's answer and what
// its Connection lists. Connection, Keep-Alive and Transfer-Encoding themselves
// are http1's: it writes its own.
func cleanResponse(h *fasthttp.ResponseHeader) {
	var listed options
	remove := false
	for key, value := range h.All() {
		switch {
		case foldEqual(key, "connection"):
			listed.add(value)
		case hopByHop(key) && !foldEqual(key, "keep-alive") && !foldEqual(key, "transfer-encoding"):
			remove = true
		}
	}
	if !remove && len(listed.b) == 0 {
		return
	}
	drop(h, func(key []byte) bool { return hopByHop(key) || listed.has(key) })
}

// drop deletes fields. fasthttp's Del moves the last field into the gap, so
// that lines of one name could change their order, which they must not (RFC
// 9110 §5.3): they are taken out and put back.
func drop(h *fasthttp.ResponseHeader, unwanted func(key []byte) bool) {
	type line struct{ key, value []byte }
	var gone [][]byte
	var kept []line
	count := map[string]int{}
	for key, value := range h.All() {
		switch {
		case endToEnd(key) || foldEqual(key, "set-cookie"):
		case unwanted(key):
			gone = append(gone, bytes.Clone(key))
		default:
			count[string(key)]++
			kept = append(kept, line{bytes.Clone(key), bytes.Clone(value)})
		}
	}
	for _, key := range gone {
		h.DelBytes(key)
	}
	for key, n := range count {
		if n > 1 {
			h.Del(key)
		}
	}
	for _, l := range kept {
		if count[string(l.key)] > 1 {
			h.AddBytesKV(l.key, l.value)
		}
	}
}

// reframed removes what is true only of the bytes that the upstream sent.
func reframed(h *fasthttp.ResponseHeader) {
	drop(h, func(key []byte) bool {
		for _, name := range [...]string{"accept-ranges", "content-digest", "content-md5", "digest", "etag", "repr-digest"} {
			if foldEqual(key, name) {
				return true
			}
		}
		return false
	})
}

// classify asks the policy about an upstream's error answer, with the first
// piece of its body, which it returns. When the policy calls it retryable and
// says when, and the upstream has not, Retry-After is added. Nothing else of
// the answer changes.
func (c *carriage) classify() (first []byte, err error) {
	if c.up.Body != nil {
		first, err = c.up.Body.Next()
	}
	h := &c.x.Resp
	if len(h.PeekBytes(keyRetryAfter)) > 0 {
		return first, err
	}
	in := hostabi.FaultInput{Route: c.route.Name, Status: uint16(c.up.Info.Status), Body: first}
	c.x.Leave() // a guest may compute for long
	if name := c.route.View.ErrorTypeHeader(); name != "" {
		in.ErrorType = string(h.Peek(name))
	}
	if f := c.route.View.UpstreamFault(&in); f.Retryable && f.RetryAfter > 0 {
		h.SetCanonical(keyRetryAfter, strconv.AppendInt(nil, ceil(f.RetryAfter, time.Second), 10))
	}
	return first, err
}

// log writes the exchange's line, at debug level.
func (c *carriage) log(start time.Time, status int, err error) {
	l := c.proxy.Log
	if l == nil || !l.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	attrs := []slog.Attr{
		slog.String("route", c.route.Name),
		slog.String("method", string(c.x.Req.Method())),
		slog.String("path", string(path(&c.x.Req))),
		slog.Int("status", status),
		slog.Int64("bytes", c.x.BytesWritten()),
		slog.Duration("duration", time.Since(start)),
		slog.String("trace_id", c.id.TraceID()),
		slog.String("request_id", c.id.String()),
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	l.LogAttrs(context.Background(), slog.LevelDebug, "http exchange", attrs...)
}

// path is the target of a request without its query, which may hold secrets.
func path(h *fasthttp.RequestHeader) []byte {
	p, _, _ := bytes.Cut(h.RequestURI(), question)
	return p
}

var question = []byte{'?'}
