package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/http1"
	"weir/proxy/metrics"
	"weir/proxy/policy"
	"weir/proxy/sock"
	"weir/proxy/stream/framed"
	"weir/proxy/upstream"
)

// Route is where a request goes and under which rules.
type Route struct {
	Name     string
	Upstream *upstream.Upstream
	View     *policy.View
	Limits   config.Limits
}

// Proxy carries HTTP exchanges. All its fields may be nil.
type Proxy struct {
	Log     *slog.Logger
	Metrics *metrics.Set
	// Allow tells whether one more fault of a code may be logged, and how many were
	// not since the last. It is asked before the line is made: a flood of refused requests is
	// no flood of lines, nor of work for them.
	Allow func(now time.Time, code hostabi.FaultCode) (suppressed int64, ok bool)
}

// errClientGone is why an exchange ended whose client left.
var errClientGone = errors.New("the client went away")

// carriage is the memory of one exchange under way.
type carriage struct {
	proxy  *Proxy
	x      *http1.Exchange
	route  *Route
	client Client
	id     *RequestID
	up     *upstream.Exchange // nil before the answer's head

	req       upstream.Request
	forwarder forwarder
	body      requestBody
	framing   framing
	listed    options // by the Connection of the answer

	// Bound once for all exchanges:
	watch   func(gone func()) (stop func()) // x.Watch
	retry   func(upstream.Kind) bool
	interim func() error
}

var carriages = sync.Pool{New: func() any {
	c := new(carriage)
	c.watch = func(gone func()) func() { return c.x.Watch(gone) }
	c.retry = c.retryable
	c.interim = c.passInterim
	c.body.goesOn = c.goesOn
	return c
}}

// Serve carries the request in x, which client sent, to the route's upstream and
// the answer back. Neither body is ever held: bytes go on as they arrive, and a
// slow side slows the other. A client that leaves cancels its request upstream.
// When Serve returns, x is answered whole, or aborted so that its client knows.
//
// Admission is the caller's; framing is asked for here, and applies to the
// answers of GET, HEAD and POST. Request bodies are never framed anew.
func (p *Proxy) Serve(x *http1.Exchange, r *Route, client Client, id *RequestID) {
	if goesNoFurther(&x.Req) {
		p.AnswerHere(x)
		return
	}
	limit := r.Limits.MaxBodySize
	if n := x.Info.ContentLength; n > limit {
		p.Refuse(x, r.View, Fault{Code: hostabi.PayloadTooLarge, Message: tooLarge("", n, limit), Limit: limit, Actual: n, Route: r.Name, Client: client, ID: id})
		return
	}
	var start time.Time
	logs := p.Log != nil && p.Log.Enabled(context.Background(), slog.LevelDebug)
	if logs {
		start = time.Now()
	}
	c := carriages.Get().(*carriage)
	c.proxy, c.x, c.route, c.client, c.id = p, x, r, client, id
	defer c.release() // also when something panics: the upstream connection must not leak
	c.body.reset(x.Body, limit)
	if x.Body != nil {
		// An upstream that need not read a body would answer before it is found out.
		if err := x.Body.Check(); err != nil {
			c.fail(&upstream.Error{Kind: upstream.Canceled, Err: err, BodyErr: err})
			return
		}
	}
	if !c.send() {
		return
	}
	if status, err := c.answer(); logs {
		c.log(start, status, err)
	}
}

// goesOn tells whether a field of the request's trailer does: many a server takes it for
// one of the head, of which the policy was shown what it looks at.
func (c *carriage) goesOn(name []byte) bool {
	return c.forwarder.goesOn(name) && !c.route.View.Judges(name)
}

// release ends what still runs for the exchange and gives its memory back.
func (c *carriage) release() {
	c.end(false)
	c.proxy, c.x, c.route, c.client, c.id = nil, nil, nil, Client{}, nil
	c.body.reset(nil, 0)
	c.req.Reset()
	c.framing = framing{}
	carriages.Put(c)
}

// end joins what runs for the exchange besides its own goroutine; only then may
// the rest of the request body be read, or its answer be finished.
func (c *carriage) end(clean bool) {
	if up := c.up; up != nil {
		c.up = nil
		up.Finish(clean)
	}
}

// send sends the request and waits for the head of the answer. When there is
// none, the client has been told and send returns false.
func (c *carriage) send() bool {
	x := c.x
	c.framing = c.askFraming()
	c.req.Method, c.req.Target, c.req.Host = x.Req.Method, x.Req.Target, x.Req.Host
	c.req.Lines = c.forwarder.forward(c.req.Lines[:0], &x.Req, forwarding{
		Client:   c.client,
		ID:       c.id,
		Upgrade:  c.req.Upgrade,
		Chunked:  x.Info.Chunked,
		HTTP10:   x.Info.HTTP10,
		Identity: c.framing.active(),
		Whole:    c.framing.changes(),
		Counted:  counted(&x.Req),
	})
	c.req.ContentLength = x.Info.ContentLength
	if x.Body != nil {
		c.req.Body = &c.body
	}
	c.req.Retryable = c.retry
	c.req.Watch = c.watch
	// A client of HTTP/1.0 does not know of interim answers, many a WebSocket client
	// takes any status but 101 for a refusal, and what is framed anew is another answer.
	if !x.Info.HTTP10 && !c.req.Upgrade && !c.framing.active() {
		c.req.Interim = c.interim
	}
	if s, ok := x.Conn().(interface{ Sock() *sock.Conn }); ok {
		c.req.Client = s.Sock()
	}
	up, err := c.route.Upstream.Do(&c.req, &x.Resp)
	if err != nil {
		c.fail(err)
		return false
	}
	c.up = up
	return true
}

// retryable tells whether the policy would have another target tried.
func (c *carriage) retryable(behind upstream.Kind) bool {
	code := hostabi.UpstreamUnavailable
	if behind == upstream.Closed {
		code = hostabi.UpstreamClosed
	}
	return c.route.View.Fault(code).Retryable
}

const invalidAnswer = "the upstream's answer is not valid HTTP"

// fail answers for an upstream that gave no head.
func (c *carriage) fail(err error) {
	c.x.Resp.Reset() // of what it may have begun to say
	f := Fault{Route: c.route.Name, Client: c.client, ID: c.id, Err: err}
	e, ok := errors.AsType[*upstream.Error](err)
	switch {
	case ok && e.BodyErr != nil:
		if !c.bodyFault(e.BodyErr, &f) {
			c.x.Abort()
			return
		}
	case ok && e.Kind == upstream.Canceled:
		_ = c.abort(&writeError{c.x.Flush()}) // of what failed with an interim answer, if one did
		return
	case ok && e.Kind == upstream.Timeout:
		key := "response_timeout"
		if c.req.Upgrade {
			key = "handshake_timeout"
		}
		f.Code, f.Message = hostabi.UpstreamTimeout, fmt.Sprintf("the upstream did not answer within %v (%s)", e.After, key)
	case ok && e.Kind == upstream.Closed:
		f.Code, f.Message = hostabi.UpstreamClosed, "the upstream closed the connection before it answered"
	case ok && e.Kind == upstream.Protocol:
		f.Code, f.Message = hostabi.UpstreamClosed, invalidAnswer
	default:
		f.Code, f.Message = hostabi.UpstreamUnavailable, "no connection to the upstream could be made"
	}
	c.proxy.Refuse(c.x, c.route.View, f)
}

// bodyFault fills f in for a request body that ended early; false when the
// client left, which is no fault of anybody's.
func (c *carriage) bodyFault(err error, f *Fault) bool {
	f.Err = err
	if e, ok := errors.AsType[*sizeError](err); ok {
		f.Code, f.Message, f.Limit, f.Actual = hostabi.PayloadTooLarge, e.Error(), e.Limit, e.Actual
		return true
	}
	if e, ok := errors.AsType[*http1.Error](err); ok {
		f.Code, f.Message = hostabi.ProtocolError, e.Error()
		return true
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		f.Code, f.Message = hostabi.ProtocolError, fmt.Sprintf("nothing of the request body came for %v (idle_timeout)", c.route.Limits.IdleTimeout)
		return true
	}
	return false
}

// answer carries the upstream's answer to the client. The error is why the
// client could not be given all of it.
func (c *carriage) answer() (status int, err error) {
	x, up := c.x, c.up
	status = up.Info.Status
	cleanResponse(&x.Resp, &c.listed, time.Now())
	c.vary(status)
	var first []byte
	var end error
	length := up.Info.ContentLength
	whole := up.Body == nil || int64(up.Body.Buffered()) == length
	if status >= 400 && c.route.View.NeedsFault() {
		first, end = c.classify()
	}
	if (whole || status >= 400) && !c.body.ended.Load() {
		x.CloseAfter() // it will not be read to its end; say so
	}
	if c.framing.applies(status) {
		if coding := coding(&x.Resp); up.Body != nil && len(coding) > 0 {
			err := up.Fault(upstream.Protocol, errors.New("content coding "+string(coding)+" where identity was asked for"))
			c.end(false)
			x.Resp.Reset()
			c.proxy.Refuse(x, c.route.View, Fault{Code: hostabi.FramingError, Message: "the upstream's stream cannot be framed: it has a content coding", Route: c.route.Name, Client: c.client, ID: c.id, Err: err})
			return status, err
		}
		if c.framing.changes() {
			length = -1
			reframed(&x.Resp)
		}
	} else {
		c.framing = framing{}
	}
	if c.proxy.Metrics != nil {
		c.proxy.Metrics.HTTPRequests(status).Inc()
	}
	if err := x.Start(length); err != nil {
		return status, c.abort(errClientGone)
	}
	if up.Body != nil {
		if err := c.carry(first, end, length); err != nil {
			return status, c.abort(err)
		}
		x.Trailer = c.appendTrailer(x.Trailer[:0], up.Body.Trailer())
	}
	c.end(true)
	if err := x.Finish(); err != nil {
		return status, c.abort(&writeError{err})
	}
	return status, nil
}

// carry streams the body of the answer, of which classify may have read the
// first piece. It flushes whenever it would have to wait for more.
func (c *carriage) carry(p []byte, err error, length int64) error {
	x, body := c.x, c.up.Body
	var src framed.Source = body
	var dst io.Writer = x
	var frames *framed.Writer // lays one frame around each chunk
	switch {
	case c.framing.pass():
		src = framed.Pass(body, c.framing.max)
	case c.framing.upstream == hostabi.FramedV1:
		src = framed.Unframe(body, c.framing.max)
	case c.framing.client == hostabi.FramedV1:
		frames = framed.Frame(x, c.framing.max)
		dst = frames
	}
	for pieces := 1; ; pieces++ {
		if pieces%stepPieces == 0 {
			c.up.Step()
		}
		if err != nil && err != io.EOF && len(p) > 0 && x.BytesWritten()+int64(len(p)) == length {
			// A framed stream may be cut where its Content-Length is full: without
			// its last byte the client cannot take it for whole.
			p = p[:len(p)-1]
		}
		if len(p) > 0 {
			if frames != nil {
				frames.Begin(int64(len(p)) + body.ChunkLeft())
			}
			if _, err := dst.Write(p); err != nil {
				return &writeError{err}
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			_ = x.Flush() // before the reset that tells an HTTP/1.0 client
			return err
		case body.Buffered() == 0:
			if err := x.Flush(); err != nil {
				return &writeError{err}
			}
		}
		p, err = src.Next()
	}
}

// stepPieces are the pieces of an answer that take as long as a read: in chunks of a byte
// one read brings five thousand.
const stepPieces = 128

// writeError is an answer that the client did not take.
type writeError struct{ err error }

func (e *writeError) Error() string { return "write to the client: " + e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// abort ends an answer that has begun and cannot be finished: never cleanly. It
// returns the error that says why.
func (c *carriage) abort(err error) error {
	f := Fault{Route: c.route.Name, Client: c.client, ID: c.id, Err: err}
	_, unwritten := errors.AsType[*writeError](err)
	_, long := errors.AsType[*framed.LengthError](err)
	_, short := errors.AsType[*framed.TruncatedError](err)
	_, invalid := errors.AsType[*http1.Error](err)
	var bodyErr error
	if c.up != nil { // else the upstream's part is over
		bodyErr = c.up.BodyErr()
	}
	switch {
	case unwritten && errors.Is(err, os.ErrDeadlineExceeded):
		f.Code, f.Message = hostabi.SlowConsumer, fmt.Sprintf("the client took nothing of the answer for %v (write_timeout)", c.route.Limits.WriteTimeout)
	case unwritten, err == errClientGone:
		err = errClientGone
	case long || short:
		f.Code, f.Message, f.Err = hostabi.FramingError, err.Error(), c.up.Fault(upstream.Protocol, err)
	case bodyErr != nil && c.bodyFault(bodyErr, &f):
	case bodyErr != nil, c.up.Canceled():
		err = errClientGone
	case invalid:
		f.Code, f.Message, f.Err = hostabi.UpstreamClosed, invalidAnswer, c.up.Fault(upstream.Protocol, err)
	default:
		f.Code, f.Message, f.Err = hostabi.UpstreamClosed, "the upstream's answer ended early", c.up.Fault(upstream.Closed, err)
	}
	if f.Code != "" {
		c.proxy.count(c.x, &f)
	}
	c.x.Abort()
	return err
}
