package http1

import (
	"cmp"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// Exchange is one request and its answer. It is valid until Handler returns or
// Detach is called; it is reused after that.
type Exchange struct {
	Req  Request
	Info RequestInfo
	// Resp is edited before Start, which adds the framing and connection
	// fields itself: what Resp says of Connection, Keep-Alive, Content-Length
	// and Transfer-Encoding is not sent. The Upgrade of a 101 or a 426 is listed by
	// Connection. Nothing else is added or changed.
	Resp Response
	// Body is nil when the request has none. The first Read sends 100
	// (Continue) when the client waits for it and no answer was started.
	Body *BodyReader
	// Trailer holds "Name: value\r\n" lines that Finish sends after a chunked
	// body; it is ignored otherwise.
	Trailer []byte

	c    *conn
	body BodyReader // what Body points to

	expecting  atomic.Bool // the client waits for 100 (Continue)
	continuing sync.Mutex  // orders 100 (Continue) before the answer, and beside other interim ones

	buf      *[]byte // holds out; nil: none is held
	out      []byte  // head and body not yet written
	head     bool    // a HEAD, 204 or 304: body bytes are counted, not sent
	chunked  bool
	toEnd    bool  // the body ends with the connection
	left     int64 // of Content-Length
	written  int64
	started  bool
	finished bool
	aborted  bool
	close    bool // the connection ends after this answer
	err      error
}

var exchanges = sync.Pool{New: func() any { return new(Exchange) }}

// outBuffers are what answers are put together in: a head and 32 KiB of body.
var outBuffers = sync.Pool{New: func() any { b := make([]byte, 0, outSize); return &b }}

const outSize = 36 << 10

func newExchange(c *conn) *Exchange {
	x := exchanges.Get().(*Exchange)
	x.c = c
	return x
}

// release gives everything back; x must not be used any more.
func (x *Exchange) release() {
	x.dropOut()
	x.Req.Reset()
	x.Resp.Reset()
	x.Info = RequestInfo{}
	x.Body, x.Trailer = nil, nil
	x.c = nil
	x.body = BodyReader{trailer: x.body.trailer[:0]}
	x.expecting.Store(false)
	x.head, x.chunked, x.toEnd, x.left, x.written = false, false, false, 0, 0
	x.started, x.finished, x.aborted, x.close, x.err = false, false, false, false, nil
	exchanges.Put(x)
}

func (x *Exchange) takeOut() {
	if x.buf == nil {
		x.buf = outBuffers.Get().(*[]byte)
		x.out = (*x.buf)[:0]
	}
}

func (x *Exchange) dropOut() {
	if x.buf != nil {
		if cap(x.out) < 2*outSize { // a head of unusual size may have made it grow
			*x.buf = x.out[:0]
		}
		outBuffers.Put(x.buf)
		x.buf, x.out = nil, nil
	}
}

// Conn is the client's connection.
func (x *Exchange) Conn() net.Conn { return x.c.nc }

// Started tells whether Start was called: the status cannot be changed any more.
func (x *Exchange) Started() bool { return x.started }

// BytesWritten is the number of body bytes written so far.
func (x *Exchange) BytesWritten() int64 { return x.written }

// Limit sets the timeouts of this exchange in place of the server's: idle for
// progress of the request body and for the wait behind the answer, write for
// a client that takes nothing. Call it before Body is read and before Start.
func (x *Exchange) Limit(idle, write time.Duration) {
	c := x.c
	c.writeLimit, c.idleLimit = write, idle
	c.wait(idle, true)
}

// CloseAfter ends the connection after this answer; before Start.
func (x *Exchange) CloseAfter() { x.close = true }

// sendContinue sends 100 (Continue) once, when the client waits for it and no
// answer was started.
func (x *Exchange) sendContinue() {
	if !x.expecting.Load() {
		return
	}
	x.continuing.Lock()
	defer x.continuing.Unlock()
	if x.expecting.Swap(false) {
		if x.c.write([]byte("HTTP/1.1 100 Continue\r\n\r\n")) != nil {
			_ = x.c.nc.Close() // half of it may be sent: no answer can follow. The read that does fails
		}
	}
}

// Interim sends the head in Resp as an interim answer (RFC 9110 §15.2), before Start
// and to HTTP/1.1 alone. It has no framing, and says nothing of the connection.
func (x *Exchange) Interim() error {
	if x.started {
		return ErrStarted
	}
	x.continuing.Lock()
	defer x.continuing.Unlock()
	x.takeOut()
	x.out = x.appendHead(x.out, x.Resp.Status, 0)
	return x.Flush()
}

// Start writes the head into the buffer: with Content-Length, or chunked when
// contentLength is -1 (until the connection ends, to HTTP/1.0). Answers without
// a body (to HEAD, 204, 304) carry the length only; of a 101 neither.
func (x *Exchange) Start(contentLength int64) error {
	if x.started {
		return ErrStarted
	}
	x.started = true
	if x.Info.Expect100 {
		x.continuing.Lock()
		x.close = x.close || x.expecting.Swap(false) // whether its body follows, nobody knows
		x.continuing.Unlock()
	}
	x.close = x.close || x.Info.Close || x.c.srv.draining.Load()
	status := cmp.Or(x.Resp.Status, fasthttp.StatusOK)
	// Behind a refused upgrade may be frames that were sent in hope.
	x.close = x.close || x.Info.Upgrade && status != fasthttp.StatusSwitchingProtocols
	x.head = status < 200 || status == 204 || status == 304 || string(x.Req.Method) == "HEAD"
	if contentLength < 0 && !x.head {
		x.chunked = !x.Info.HTTP10
		x.toEnd = x.Info.HTTP10
		x.close = x.close || x.toEnd
		x.c.unframed.Store(x.toEnd)
	}
	x.left = contentLength
	x.takeOut()
	x.out = x.appendHead(x.out, status, contentLength)
	return nil
}

// appendHead serialises Resp.
func (x *Exchange) appendHead(b []byte, status int, contentLength int64) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	if reason := x.Resp.Reason; len(reason) > 0 {
		b = append(b, reason...)
	} else {
		b = append(b, fasthttp.StatusMessage(status)...)
	}
	b = append(b, "\r\n"...)
	for _, f := range x.Resp.fields {
		if !x.ours(f.Name) {
			b = f.AppendTo(b)
		}
	}
	switch {
	case status < 200 || status == 204:
	case contentLength >= 0:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, contentLength, 10)
		b = append(b, "\r\n"...)
	case x.chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	return append(x.appendConnection(b, status), "\r\n"...)
}

// appendConnection appends what is to become of the connection: it ends, or stays,
// is upgraded, or is to be before the request is served (RFC 9110 §15.5.22).
func (x *Exchange) appendConnection(b []byte, status int) []byte {
	options := ""
	switch {
	case status < 200:
	case x.close:
		options = ", close"
	case x.Info.KeepAlive10:
		options = ", keep-alive"
	}
	if (status == fasthttp.StatusSwitchingProtocols || status == fasthttp.StatusUpgradeRequired) && x.Resp.Get("upgrade") != nil {
		options += ", Upgrade"
	}
	if options == "" {
		return b
	}
	b = append(append(b, "Connection: "...), options[len(", "):]...)
	return append(b, "\r\n"...)
}

// ours tells the fields that an answer has from Start, or not at all.
func (x *Exchange) ours(name []byte) bool {
	switch len(name) {
	case len("trailer"):
		return !x.chunked && EqualFold(name, "trailer")
	case len("connection"): // and keep-alive
		return EqualFold(name, "keep-alive") || EqualFold(name, "connection")
	case len("content-length"):
		return EqualFold(name, "content-length")
	case len("transfer-encoding"):
		return EqualFold(name, "transfer-encoding")
	}
	return false
}
