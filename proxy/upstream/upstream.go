// Package upstream sends requests to a set of equal backends: balancing,
// health, keep-alive connections, and answers that stream.
package upstream

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"time"

	"weir/proxy/config"
	"weir/proxy/http1"

	"github.com/valyala/fasthttp"
)

// Options are what an Upstream takes from its surroundings.
type Options struct {
	Demo func() string // host:port of the embedded backend, for "demo:"
	Log  *slog.Logger  // nil: discarded
	TLS  *tls.Config   // template for https targets; nil: the system's roots
}

// Upstream is a set of targets.
type Upstream struct{}

// New prepares the targets of cfg; nothing is dialled yet but health checks.
func New(cfg *config.Upstream, o Options) (*Upstream, error) { panic("api") }

// Close ends health checks and idle connections; connections in use end with
// their exchange.
func (u *Upstream) Close() { panic("api") }

// Request is what Do sends.
type Request struct {
	// Header is sent with the framing and connection fields made anew from
	// ContentLength, Body and Upgrade; everything else goes as it stands.
	Header *fasthttp.RequestHeader
	// Body is nil when there is none. Bytes go out as they come. When it has
	// Buffered() int, a small one that is buffered whole goes with the head;
	// when it has Interrupt(), it is interrupted when the answer is over first;
	// when it has Trailer() []byte, its trailer is sent.
	Body          io.Reader
	ContentLength int64 // of Body, bytes; -1: chunked
	Retryable     bool  // a connect failure may be tried at another target
	Upgrade       bool  // Connection and Upgrade of Header are sent
	Timeout       time.Duration // until the response head; 0: response_timeout
	// Watch, if any, tells when the client has gone (http1.Exchange.Watch). It
	// is started only when the upstream takes its time, and not while Body is
	// being read.
	Watch func(gone func()) (stop func())
}

// Do sends r and reads the head of the answer into resp. The error is an *Error.
func (u *Upstream) Do(r *Request, resp *fasthttp.ResponseHeader) (*Exchange, error) { panic("api") }

// Exchange is an answer under way.
type Exchange struct {
	Info http1.ResponseInfo
	Body *http1.BodyReader // nil: none
	URL  string            // the target's
}

// Finish ends the exchange: it joins what runs for it and keeps the connection
// when clean is true and both bodies reached their end.
func (e *Exchange) Finish(clean bool) { panic("api") }

// Cancel closes the connection, from any goroutine, so that reads fail at once.
func (e *Exchange) Cancel() { panic("api") }

// Canceled tells whether the exchange was ended by Cancel or by a client that
// left.
func (e *Exchange) Canceled() bool { panic("api") }

// BodyErr is what ended the request body early, nil while it flows or when it
// was sent whole.
func (e *Exchange) BodyErr() error { panic("api") }

// Detach takes the connection of a 101 with a copy of the bytes behind its
// head. Finish must not be called after it.
func (e *Exchange) Detach() (net.Conn, []byte) { panic("api") }

// TargetStatus is one target as the admin listener shows it.
type TargetStatus struct {
	URL     string `json:"url"`
	Healthy bool   `json:"healthy"`
	Idle    int    `json:"idle"`
	InUse   int    `json:"in_use"`
}

// Status lists the targets in the order of the configuration.
func (u *Upstream) Status() []TargetStatus { panic("api") }
