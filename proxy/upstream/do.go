package upstream

import (
	"errors"
	"io"
	"os"
	"time"

	"weir/proxy/http1"
	"weir/proxy/poll"
	"weir/proxy/sock"
)

// Request is what Do sends.
type Request struct {
	Method, Target []byte
	Host           []byte // empty: the target's
	// Lines are the other fields, "Name: value" and CRLF each, sent as they are.
	// None of them may be about framing, which ContentLength and Body decide.
	Lines []byte
	// Body is nil when there is none. Bytes go out as they come. When it has
	// Buffered() int, a small one that is buffered whole goes with the head;
	// when it has Interrupt(), it is interrupted when the answer is over first
	// (without, its Read must return by itself); when it has Trailer() []byte,
	// its trailer is sent; when it has Apart(bool), it is told that a goroutine
	// of its own reads it, and when that has ended; when it has Left() bool, that
	// says whether its client has gone, beside a Read.
	Body          io.Reader
	ContentLength int64 // of Body, bytes; -1: chunked
	// Retryable says whether another target may be tried behind a failure of that kind,
	// Unavailable or Closed; nil: no.
	Retryable func(Kind) bool
	Upgrade   bool          // the answer may be 101
	Timeout   time.Duration // until the response head; 0: response_timeout
	// Watch, if any, tells when the client has gone (http1.Exchange.Watch). It
	// is started only when the upstream takes its time, and not while Body is
	// being read.
	Watch func(gone func()) (stop func())
	// Interim, if any, is called with each interim answer in Do's resp, but 100
	// (Continue), which nobody asked for. An error is a client that has gone.
	Interim func() error
	// Client is the connection that the request came by, if it did. What waits
	// then does so as a task of that one does, on its loop.
	Client *sock.Conn

	head []byte // as it is sent
}

// Reset makes r empty, and keeps its memory.
func (r *Request) Reset() { *r = Request{Lines: r.Lines[:0], head: r.head} }

// maxInterim bounds the 1xx answers before the final one.
const maxInterim = 16

// Do sends r and reads the head of the answer into resp; interim answers go to
// r.Interim. The error is an *Error, and there is nothing to finish then.
func (u *Upstream) Do(r *Request, resp *http1.Response) (*Exchange, error) {
	if r.ContentLength == 0 {
		r.Body = nil
	}
	b := appendHead(r.head[:0], r)
	b, whole, err := inline(b, r)
	if r.head = b; cap(b) > inlineBody+readerSize {
		r.head = nil
	}
	if err != nil {
		return nil, &Error{Kind: Canceled, Err: err, BodyErr: err}
	}
	e, over := newExchange(u, r), false
	defer func() {
		if !over && e.from != nil { // a panic: whoever handles it has no e to finish
			e.Finish(false)
		}
	}()
	var failed []*target // each is tried once
	for {
		t, trial := u.pick(failed)
		err := e.attempt(t, trial, r, b, whole, resp)
		if err == nil {
			over = true
			return e, nil
		}
		more := len(failed) < min(u.retries, len(u.targets)-1)
		if err.again && r.Retryable != nil && more && !e.Canceled() && r.Retryable(err.Kind) {
			if err.Kind == Closed && u.faults != nil { // else the log knows
				u.faults.Warn(time.Now(), "upstream closed before it answered, another is tried", "upstream", u.name, "url", t.url, "error", err.Err)
			}
			failed = append(failed, t)
			continue
		}
		e.stopWatch()
		e.release()
		over = true
		return nil, err
	}
}

// attempt does it with one target. A kept connection that turns out to be
// closed is replaced once by a fresh one, where nothing can have happened twice. fresh:
// no kept one is taken, since a new one shows whether t can be connected to.
func (e *Exchange) attempt(t *target, fresh bool, r *Request, head []byte, whole bool, resp *http1.Response) *Error {
	e.URL = t.url
	if len(r.Host) == 0 {
		head = addressed(head, r, t)
	}
	s := t.shelf(r.Client)
	s.inUse.Add(1)
	repeatable := r.Body == nil && idempotent(r.Method)
	var c *conn
	if !fresh {
		c = t.take(time.Now(), repeatable, r.Client)
	}
	for {
		if c == nil {
			var err *Error
			if c, err = e.dial(t, r); err != nil {
				s.inUse.Add(-1)
				return err
			}
		}
		if !e.attach(c, r.Client) {
			s.inUse.Add(-1)
			return e.Fault(Canceled, errCanceled)
		}
		e.from = s
		written, err := e.roundTrip(r, head, whole, resp)
		if err == nil {
			return nil
		}
		e.from = nil
		again := !c.began && (repeatable || !written && r.Body == nil)
		f := e.abandon(err)
		f.again = again && f.Kind == Closed
		if !f.again || !c.reused {
			s.inUse.Add(-1)
			return f
		}
		c = nil
	}
}

// dial makes a new connection. If that takes long, the client is watched
// meanwhile.
func (e *Exchange) dial(t *target, r *Request) (*conn, *Error) {
	began := func(cancel func()) {
		e.mu.Lock()
		e.dialing = cancel
		if e.canceled {
			cancel()
		}
		e.mu.Unlock()
		e.startWatch()
	}
	from := time.Now()
	c, err := t.dial(r.Client, e.u.connectTimeout, began)
	late := time.Since(from) > e.u.connectTimeout+poll.Late // what came in time was not looked at
	if err != nil && (late || lackOf(err) != nil && e.u.spare != nil && e.u.spare()) {
		c, err = t.dial(r.Client, e.u.connectTimeout, began)
	}
	if r.Body != nil {
		e.stopWatch() // it would stand between the body and its reader
	}
	e.mu.Lock()
	e.dialing = nil
	canceled := e.canceled
	e.mu.Unlock()
	if err == nil {
		t.connected()
	}
	switch {
	case err == nil && !canceled:
		return c, nil
	case err == nil:
		_ = c.nc.Close()
		return nil, e.Fault(Canceled, errCanceled)
	case canceled:
		t.givenUp()
		return nil, e.Fault(Canceled, errCanceled)
	}
	if lack := lackOf(err); lack != nil {
		t.givenUp()
		err = lack
	} else if t.connectFailed(from, time.Now()) {
		e.u.log.Warn("upstream cannot be connected to", "upstream", e.u.name, "url", t.url, "error", err)
	}
	f := e.Fault(Unavailable, err)
	f.again = true
	return nil, f
}

// roundTrip sends the head, has the body follow, and reads the answer's head.
// written tells whether a byte can have reached the upstream.
func (e *Exchange) roundTrip(r *Request, head []byte, whole bool, resp *http1.Response) (written bool, err error) {
	c := e.c
	e.began = time.Time{}
	if err := c.limitWrites(e.timeout); err != nil {
		return false, err
	}
	if whole && c.quick != nil {
		n, err := c.ask(head)
		if err == nil {
			err = e.readHead(r, resp)
		}
		return n > 0, err
	}
	n, err := c.rw.Write(head)
	if err != nil {
		return n > 0, err
	}
	if !whole {
		// A sender may be slow as long as its client is; whether the upstream
		// is, the wait for the answer finds out.
		if err := c.limitWrites(0); err != nil {
			return true, err
		}
		e.startSender(r.Body, r.ContentLength)
	}
	if c.quick == nil {
		c.takeReader()
	} else if _, err := c.ask(nil); err != nil {
		return true, err
	}
	return true, e.readHead(r, resp)
}

// readHead reads the head of the final answer.
func (e *Exchange) readHead(r *Request, resp *http1.Response) error {
	br, closes := e.c.br, false
	for interim := 0; ; {
		head, err := http1.ReadHead(br, maxHead)
		if err != nil {
			return err
		}
		info, err := resp.Parse(head, r.Method)
		if err != nil {
			return err
		}
		_, _ = br.Discard(len(head))
		if info.Status < 200 && info.Status != 101 {
			closes = closes || info.Close
			if interim++; interim > maxInterim {
				return &http1.Error{Status: 400, Reason: "more than 16 interim answers"}
			}
			if info.Status > 101 && r.Interim != nil && r.Interim() != nil {
				e.Cancel()
				return errCanceled
			}
			continue
		}
		if info.Status == 101 && !r.Upgrade {
			return &http1.Error{Status: 400, Reason: "101 to a request that asked for no upgrade", Line: 1}
		}
		info.Close = info.Close || closes
		e.Info, e.gotHead = info, true
		e.c.keep = keepFor(resp)
		if !info.NoBody && (info.Chunked || info.ContentLength != 0) {
			e.body.Reset(br, &e.Info)
			e.Body = &e.body
		}
		return nil
	}
}

// abandon ends an attempt that failed and says why.
func (e *Exchange) abandon(err error) *Error {
	e.c.cut()
	if e.sender != nil {
		e.sender.end()
	}
	c, _ := e.detachConn()
	c.dropReader()
	c.e = nil
	bodyErr := e.BodyErr()
	kind := Closed
	if _, ok := errors.AsType[*http1.Error](err); ok {
		kind = Protocol
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		kind = Timeout
	}
	switch {
	case bodyErr != nil:
		kind = Canceled
	case e.Canceled():
		kind, err = Canceled, errCanceled
	}
	f := e.Fault(kind, err)
	f.BodyErr = bodyErr
	if kind == Timeout {
		f.After = e.timeout
	}
	return f
}

// Fault names the target that err is of.
func (e *Exchange) Fault(kind Kind, err error) *Error {
	return &Error{Kind: kind, URL: e.URL, Err: err}
}

// idempotent tells whether a request with this method may be sent twice
// (RFC 9110 §9.2.2).
func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}
