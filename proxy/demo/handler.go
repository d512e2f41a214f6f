package demo

import (
	_ "embed"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

//go:embed page.html
var page []byte

// handle routes one request. A body that its handler did not read would be
// taken for the next request, so only /echo keeps the connection after one.
func (d *Demo) handle(ctx *fasthttp.RequestCtx) {
	path := string(ctx.Path())
	if path != "/echo" && ctx.Request.Header.ContentLength() != 0 && ctx.RequestBodyStream() != nil {
		ctx.SetConnectionClose()
	}
	switch {
	case path == "/":
		ctx.SetContentType("text/html; charset=utf-8")
		ctx.Response.Header.Set("Cache-Control", "no-cache")
		ctx.Response.SetBodyRaw(page)
	case path == "/ws":
		d.upgrade(ctx)
	case path == "/echo":
		echo(ctx)
	case path == "/events":
		d.events(ctx)
	case path == "/stream":
		d.stream(ctx)
	case path == "/slow":
		d.slow(ctx)
	case strings.HasPrefix(path, "/status/"):
		status(ctx, strings.TrimPrefix(path, "/status/"))
	default:
		refuse(ctx, fasthttp.StatusNotFound, "the demonstration backend has no "+strconv.Quote(path)+
			": try /, /ws, /echo, /events, /stream, /status/503 or /slow?ms=100")
	}
}

// echo returns the body that it is sent, chunk by chunk while it arrives, or
// for a request without one what it saw of the request.
func echo(ctx *fasthttp.RequestCtx) {
	body := ctx.RequestBodyStream()
	if body != nil && ctx.Request.Header.ContentLength() != 0 {
		ctx.Response.Header.SetContentTypeBytes(ctx.Request.Header.ContentType())
		ctx.Response.ImmediateHeaderFlush = true
		// fasthttp puts a request's stream back into its pool at the end of the
		// request, and once more at the end of a response that it knows it in:
		// two requests would then read from one.
		ctx.Response.SetBodyStream(struct{ io.Reader }{body}, -1)
		return
	}
	seen := seenRequest{
		Method:  string(ctx.Method()),
		Path:    string(ctx.Path()),
		Query:   string(ctx.URI().QueryString()),
		Headers: map[string][]string{},
	}
	for k, v := range ctx.Request.Header.All() {
		seen.Headers[string(k)] = append(seen.Headers[string(k)], string(v))
	}
	answer(ctx, fasthttp.StatusOK, seen)
}

// seenRequest is what GET /echo answers.
type seenRequest struct {
	Method  string              `json:"method"`
	Path    string              `json:"path"`
	Query   string              `json:"query"`
	Headers map[string][]string `json:"headers"`
}

// events is a stream of server-sent events, ?rate= per second, ?count= in
// all (0: until the client leaves), ?size= bytes at least.
func (d *Demo) events(ctx *fasthttp.RequestCtx) {
	q := query{args: ctx.QueryArgs()}
	spec := feedSpec{
		Rate: q.int("rate", 10, 1, maxRate),
		Size: q.int("size", 0, 0, maxSize),
	}
	count := q.int("count", 0, 0, 1_000_000_000)
	if q.refused(ctx) {
		return
	}
	ctx.SetContentType("text/event-stream")
	ctx.Response.Header.Set("Cache-Control", "no-cache")
	ctx.Response.ImmediateHeaderFlush = true
	ctx.Response.SetBodyStream(newEventBody(d.done, spec, count), -1)
}

// stream is ?bytes= bytes in chunks of ?chunk= bytes, ?rate= chunks per second
// (0: as fast as they are taken).
func (d *Demo) stream(ctx *fasthttp.RequestCtx) {
	q := query{args: ctx.QueryArgs()}
	total := q.int64("bytes", 1<<20, 0, 1<<40)
	chunk := q.int("chunk", 16<<10, 1, maxSize)
	rate := q.int("rate", 0, 0, maxRate)
	if q.refused(ctx) {
		return
	}
	ctx.SetContentType("application/octet-stream")
	ctx.Response.ImmediateHeaderFlush = true
	ctx.Response.SetBodyStream(newByteBody(d.done, total, chunk, rate), -1)
}

// slow answers after ?ms= milliseconds.
func (d *Demo) slow(ctx *fasthttp.RequestCtx) {
	q := query{args: ctx.QueryArgs()}
	ms := q.int("ms", 1000, 0, 120_000)
	if q.refused(ctx) {
		return
	}
	t := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		answer(ctx, fasthttp.StatusOK, map[string]int{"slept_ms": ms})
	case <-d.done:
		ctx.SetConnectionClose()
	}
}

// status answers with the status in the path.
func status(ctx *fasthttp.RequestCtx, code string) {
	n, err := strconv.Atoi(code)
	if err != nil || n < 200 || n > 599 {
		refuse(ctx, fasthttp.StatusBadRequest, "status "+strconv.Quote(code)+" is not between 200 and 599")
		return
	}
	if n == fasthttp.StatusNoContent || n == fasthttp.StatusNotModified {
		ctx.SetStatusCode(n)
		return
	}
	answer(ctx, n, map[string]any{"status": n, "text": fasthttp.StatusMessage(n)})
}

// unreadable answers a request that could not be parsed.
func unreadable(ctx *fasthttp.RequestCtx, err error) {
	refuse(ctx, fasthttp.StatusBadRequest, "not a request: "+err.Error())
}

// refuse does not use ctx.Error, which resets the response and with it
// NoDefaultDate.
func refuse(ctx *fasthttp.RequestCtx, code int, why string) {
	answer(ctx, code, map[string]string{"error": why})
}

func answer(ctx *fasthttp.RequestCtx, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // headers may hold bytes that are not UTF-8; Marshal replaces those
		code, b = fasthttp.StatusInternalServerError, []byte(`{"error":"unprintable"}`)
	}
	ctx.SetStatusCode(code)
	ctx.SetContentType("application/json")
	ctx.Response.SetBodyRaw(append(b, '\n'))
}
