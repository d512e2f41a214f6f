package relay

import (
	"crypto/rand"
	"fmt"
	"math"

	"weir/hostabi"
	"weir/proxy/jsonpeek"
	"weir/proxy/metrics"
	"weir/proxy/policy"
	"weir/proxy/wsframe"
)

const (
	drainFactor   = 64       // of max_message_size: how much of one refused message is drained
	drainCeiling  = 1 << 30  // bytes, whatever max_message_size is
	headerCeiling = 16 << 20 // bytes of its headers
	limitedRow    = 64       // bursts refused in a row before message_rate closes 1008
)

// breach is a ceiling that a message breaks, as it was then; without a code it
// breaks none.
type breach struct {
	code          hostabi.FaultCode
	ceiling       string // its name, where a code has several
	limit, actual int64  // actual below 0: nothing of the message was measured
	least         bool   // more fragments follow: actual is no more than what came until then
}

func oversize(limit, actual int64) breach {
	return breach{code: hostabi.PayloadTooLarge, ceiling: "max_message_size", limit: limit, actual: actual}
}

func noMemory(limit, used int64) breach {
	return breach{code: hostabi.PendingLimit, ceiling: "max_memory", limit: limit, actual: used}
}

// refusal is a message that is refused and being drained.
type refusal struct {
	breach
	drained  int64 // payload declared so far
	headers  int64 // bytes of its frames' headers, which may be all that comes
	most     int64 // bytes of payload that are drained
	answered bool

	beginning // that an envelope may quote
}

func (r *refusal) header(h *wsframe.Header) {
	r.frame(h)
	r.drained = sum(r.drained, h.Length)
	r.headers += int64(h.Size)
}

// tooMuch reports whether no more of it is to be drained.
func (r *refusal) tooMuch() bool { return r.drained > r.most || r.headers > headerCeiling }

// sum adds declared lengths, which may be anything up to 2^63-1.
func sum(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// take is the beginning's, until that is quoted.
func (r *refusal) take(part []byte) {
	if !r.answered {
		r.beginning.take(part)
	}
}

// startRefusing begins to drain the message whose frame header is h.
func (p *pump) startRefusing(h *wsframe.Header, br breach) *Cause {
	br.least = !h.Fin
	p.startRefusal(br)
	p.refuse.header(h)
	p.state = refusing
	if p.refuse.tooMuch() {
		return p.drainedTooMuch()
	}
	return p.frameEnd()
}

// startRefusal moves what an envelope may quote from a held message to the
// refusal that follows, and drops the rest.
func (p *pump) startRefusal(br breach) {
	p.refuse = &refusal{breach: br, most: min(drainFactor*p.set.Limits.MaxMessageSize, drainCeiling)}
	if p.hold != nil {
		p.refuse.beginning = p.hold.beginning
		p.dropHeld()
	}
}

func (p *pump) drainedTooMuch() *Cause {
	why := fmt.Sprintf("message of %d bytes exceeds max_message_size %d, drain ceiling %d",
		p.refuse.drained, p.set.Limits.MaxMessageSize, p.refuse.most)
	if p.refuse.headers > headerCeiling {
		why = fmt.Sprintf("a refused message came with %d bytes of frame headers, above %d", p.refuse.headers, headerCeiling)
	}
	if !p.refuse.answered { // the close is its answer
		p.countRefused(p.refuse.code)
	}
	return p.t.messageFault(p.dir, hostabi.PayloadTooLarge, why)
}

// answerWhenKnown sends the envelope of a drained message once enough of it has
// been seen to quote, or all of it.
func (p *pump) answerWhenKnown(end bool) *Cause {
	r := p.refuse
	if r.answered || (len(r.prefix) < peekSize && !end) {
		return nil
	}
	r.answered = true
	c := p.refuseWhole(r.breach, r.prefix)
	r.prefix = nil
	return c
}

// refuseWhole counts a refused message that begins with prefix and answers it
// with its envelope.
func (p *pump) refuseWhole(br breach, prefix []byte) *Cause {
	code, key := br.code, p.keyOf(prefix)
	p.loop.writes++
	p.countRefused(code)
	p.t.logFault(p, br, key)
	if p.limited > limitedRow*max(p.set.Limits.MessageBurst, 1) {
		return p.t.messageFault(p.dir, hostabi.RateLimited, fmt.Sprintf("%d messages in a row above message_rate %d", p.limited, p.set.Limits.MessageRate))
	}
	view := p.set.View
	env := view.Envelope(code, hostabi.WebSocket, p.dir)
	if env == nil || env.Recipient == hostabi.ToNobody || p.out.sink.closed() {
		return nil
	}
	fault := view.Fault(code)
	v := policy.Values{
		Code: code, Message: br.String(), Status: env.Status,
		Retryable: fault.Retryable, RetryAfterMS: fault.RetryAfter.Milliseconds(),
		Limit: br.limit, Actual: br.actual, TraceID: p.t.o.TraceID, Key: key,
	}
	if keep := view.Keep(); len(keep) > 0 {
		v.Fields = make([][]byte, len(keep))
		for i, ptr := range keep {
			if raw, r := ptr.Find(prefix); r == jsonpeek.Found {
				v.Fields[i] = raw
			}
		}
	}
	to := &p.out.sink
	if env.Recipient == hostabi.ToSender {
		to = &p.in.sink
	}
	to.inject(p, envelopeFrame(env, &v, to.dir))
	return nil
}

// envelopeFrame renders an envelope as a message toward the peer that d leads
// to.
func envelopeFrame(env *policy.Envelope, v *policy.Values, d hostabi.Direction) []byte {
	op := wsframe.Text
	if env.Binary {
		op = wsframe.Binary
	}
	return wsframe.AppendFrame(nil, op, newMask(d), env.Append(nil, v))
}

// newMask returns a mask for a frame of Weir's own: it is the client of the
// upstream, and masks with keys nobody can guess (RFC 6455 §5.3).
func newMask(d hostabi.Direction) *[4]byte {
	if d == hostabi.ToClient {
		return nil
	}
	var m [4]byte
	_, _ = rand.Read(m[:]) // never fails, crypto/rand
	return &m
}

// String says what was measured, what is allowed and who allows it.
func (br breach) String() string {
	switch br.code {
	case hostabi.PayloadTooLarge:
		least := ""
		if br.least {
			least = "at least "
		}
		return fmt.Sprintf("message of %s%d bytes exceeds %s %d", least, br.actual, br.ceiling, br.limit)
	case hostabi.InboxFull:
		return fmt.Sprintf("%d messages wait for the upstream, max_inbox is %d", br.actual, br.limit)
	case hostabi.PendingLimit:
		return fmt.Sprintf("%d bytes would wait with this message, %s is %d", br.actual, br.ceiling, br.limit)
	case hostabi.RateLimited:
		return fmt.Sprintf("more than message_rate %d messages per second", br.limit)
	}
	f, _ := hostabi.Lookup(br.code)
	return f.Title
}

// countRefused counts a refused message; a tunnel that ends for it counts one fault more.
func (p *pump) countRefused(code hostabi.FaultCode) {
	p.refused.add(1)
	p.t.o.Metrics.Fault(code).Inc()
	p.t.o.Metrics.Dropped(dropReason(code)).Inc()
}

func dropReason(code hostabi.FaultCode) metrics.Reason {
	switch code {
	case hostabi.PayloadTooLarge:
		return metrics.DroppedOversize
	case hostabi.InboxFull:
		return metrics.DroppedInboxFull
	case hostabi.RateLimited:
		return metrics.DroppedRateLimited
	case hostabi.PendingLimit:
		return metrics.DroppedPending
	}
	return metrics.DroppedInvalid
}

// recallable reports whether a message of a droppable kind may be shed after
// all: not when it has the field that unless names, or could have.
func recallable(r *policy.Rule, prefix []byte) bool {
	if r.Unless.IsZero() {
		return true
	}
	_, found := r.Unless.Find(prefix)
	return found == jsonpeek.Absent
}

// conflateName names the state that a message carries; empty: none. A rule that is asked
// for again may read it from another field.
func (p *pump) conflateName(rule *policy.Rule, prefix []byte) string {
	if rule.Conflate.IsZero() {
		return ""
	}
	raw, r := rule.Conflate.Find(prefix)
	if r != jsonpeek.Found {
		return ""
	}
	return rule.Conflate.String() + "\x00" + string(p.keyOf(prefix)) + "\x00" + string(raw)
}

// quotable returns the beginning of the message in wire, unmasked: of an unmasked
// frame all of it.
func (p *pump) quotable(wire []byte) []byte {
	h, _, _ := wsframe.Parse(wire)
	switch {
	case h.Fin && !h.Masked:
		return wire[h.Size:]
	case p.hold != nil:
		return p.hold.prefix
	}
	return p.peek(&h, wire[h.Size:], peekSize)
}
