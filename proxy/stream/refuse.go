package stream

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"weir/hostabi"
	"weir/proxy/http1"
	"weir/proxy/policy"
)

// Fault is something Weir refuses or loses, as it is told to an HTTP client.
type Fault struct {
	Code    hostabi.FaultCode
	Route   string     // its name, for the log alone; empty: none matched
	Message string     // measured and allowed, shown to the client; empty: the catalogue's title
	Limit   int64      // what is allowed; 0: none
	Actual  int64      // what was measured; 0: nothing
	Client  Client     // for the log alone; zero: the other end of the connection
	ID      *RequestID // nil when no request head could be read
	// RetryAfter stands in for the policy's when that gives none.
	RetryAfter time.Duration
	Err        error // the cause, for the log alone
}

// answers is the memory envelopes are filled in.
var answers = sync.Pool{New: func() any { return new([]byte) }}

// Refuse answers x with the envelope of f in the route's dialect and with what
// else stands in x.Resp, counts and logs it. The connection is in a defined
// state after it: it serves its next request when the body of this one was read
// or is short enough to be, and closes behind the answer otherwise
// (http1.Exchange.Respond). An answer that has begun already cannot be replaced:
// it is aborted. No guest is waited for, and no loop is left.
func (p *Proxy) Refuse(x *http1.Exchange, v *policy.View, f Fault) {
	class := v.Fault(f.Code)
	if class.RetryAfter <= 0 {
		class.RetryAfter = f.RetryAfter
	}
	p.count(x, &f)
	if x.Started() {
		x.Abort()
		return
	}
	e := v.Envelope(f.Code, hostabi.HTTP, hostabi.ToUpstream)
	values := policy.Values{Code: f.Code, Message: f.Message, Retryable: class.Retryable, Limit: -1, Actual: -1}
	if f.Limit > 0 {
		values.Limit = f.Limit
	}
	if f.Actual > 0 {
		values.Actual = f.Actual
	}
	x.Resp.Set("Cache-Control", "no-store")
	if f.ID != nil {
		values.TraceID = f.ID.TraceID()
		x.Resp.Set("X-Request-Id", f.ID.String())
	}
	if class.Retryable && class.RetryAfter > 0 {
		values.RetryAfterMS = ceil(class.RetryAfter, time.Millisecond)
		x.Resp.Set("Retry-After", strconv.FormatInt(ceil(class.RetryAfter, time.Second), 10))
	}
	x.Resp.AddDate(time.Now())
	b := answers.Get().(*[]byte)
	*b = e.Append((*b)[:0], &values)
	if p.Metrics != nil {
		p.Metrics.HTTPRequests(e.Status).Inc()
	}
	_ = x.Respond(e.Status, e.ContentType, *b) // the client may be gone: there is nobody left to tell
	answers.Put(b)
}

// count counts f and logs it with what it befell, as often as Allow lets it.
func (p *Proxy) count(x *http1.Exchange, f *Fault) {
	if p.Metrics != nil {
		p.Metrics.Fault(f.Code).Inc()
	}
	if p.Log == nil || !p.Log.Enabled(context.Background(), slog.LevelWarn) {
		return
	}
	suppressed := int64(0)
	if p.Allow != nil {
		var ok bool
		if suppressed, ok = p.Allow(time.Now(), f.Code); !ok {
			return
		}
	}
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs, slog.String("code", string(f.Code)), slog.String("message", f.Message))
	if f.Route != "" {
		attrs = append(attrs, slog.String("route", f.Route))
	}
	attrs = appendRequest(attrs, x, f.Client)
	if f.ID != nil {
		attrs = append(attrs, slog.String("trace_id", f.ID.TraceID()), slog.String("request_id", f.ID.String()))
	}
	if f.Limit > 0 {
		attrs = append(attrs, slog.Int64("limit", f.Limit), slog.Int64("actual", f.Actual))
	}
	if f.Err != nil {
		attrs = append(attrs, slog.String("error", f.Err.Error()))
	}
	if p.Allow != nil {
		attrs = append(attrs, slog.Int64("suppressed", suppressed))
	}
	p.Log.LogAttrs(context.Background(), slog.LevelWarn, "http fault", attrs...)
}

// ceil is d in whole units, rounded up.
func ceil(d, unit time.Duration) int64 { return int64((d + unit - 1) / unit) }
