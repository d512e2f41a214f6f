package http1

import (
	"net"

	"github.com/valyala/fasthttp"
)

// Exchange is one request and its answer. It is valid until Handler returns or
// Detach is called; it is reused after that.
type Exchange struct {
	// Req is the request as fasthttp parsed it. Its Host and RequestURI are
	// those of an absolute-form target where there was one.
	Req  fasthttp.RequestHeader
	Info RequestInfo
	// Resp is edited before Start, which adds the framing and connection
	// fields itself: what Resp says of Connection, Keep-Alive, Content-Length
	// and Transfer-Encoding is not sent (but for the Connection of a 101).
	// Nothing else is added or changed.
	Resp fasthttp.ResponseHeader
	// Body is nil when the request has none. The first Read sends 100
	// (Continue) when the client waits for it and no answer was started.
	Body *BodyReader
	// Trailer holds "Name: value\r\n" lines that Finish sends after a chunked
	// body; it is ignored otherwise.
	Trailer []byte
}

// Conn is the client's connection.
func (x *Exchange) Conn() net.Conn { panic("api") }

// Start writes the head into the buffer: with Content-Length, or chunked when
// contentLength is -1 (until the connection ends, to HTTP/1.0).
func (x *Exchange) Start(contentLength int64) error { panic("api") }

// Started tells whether Start was called: the status cannot be changed any more.
func (x *Exchange) Started() bool { panic("api") }

// Write adds to the body. It is buffered until Flush, Finish or 32 KiB.
func (x *Exchange) Write(p []byte) (int, error) { panic("api") }

// Flush sends what is buffered.
func (x *Exchange) Flush() error { panic("api") }

// Finish ends the answer properly and sends it.
func (x *Exchange) Finish() error { panic("api") }

// Abort ends the connection so that the client cannot take the answer for whole.
func (x *Exchange) Abort() { panic("api") }

// CloseAfter ends the connection after this answer; before Start.
func (x *Exchange) CloseAfter() { panic("api") }

// Respond writes a whole small answer with what else is in Resp.
func (x *Exchange) Respond(status int, contentType string, body []byte) error { panic("api") }

// Watch calls gone once, from another goroutine, if the client disconnects
// before stop is called. stop joins that goroutine; gone must not call it.
// Pipelined bytes stay unread. Body must not be read meanwhile.
func (x *Exchange) Watch(gone func()) (stop func()) { panic("api") }

// Detach takes the connection out of the server, after a 101 was flushed, with
// a copy of the bytes that the client sent behind its head (nil: none). The
// Exchange must not be used any more, not even read.
func (x *Exchange) Detach() (c net.Conn, buffered []byte) { panic("api") }

// BytesWritten is the number of body bytes written so far.
func (x *Exchange) BytesWritten() int64 { panic("api") }
