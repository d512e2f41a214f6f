package relay

import (
	"fmt"

	"weir/proxy/metrics"
	"weir/proxy/wsframe"
)

// text follows the payload of a message that comes in parts, to tell whether it
// is UTF-8 where validate_utf8 asks for that.
type text struct {
	checked bool  // a text message, and validate_utf8 was set when it began
	n       int64 // bytes of it seen
	seen    wsframe.UTF8

	masked bool
	mask   [4]byte
	at     int // in the current frame's payload; negative: of its header are to come
}

// frame notes the header of the message's next frame, or of another message's
// first.
func (x *text) frame(h *wsframe.Header, validate bool) {
	if h.Opcode != wsframe.Continuation {
		*x = text{checked: validate && h.Opcode == wsframe.Text}
	}
	x.masked, x.mask, x.at = h.Masked, h.Mask, 0
}

// take looks at the next part of the frame, through scratch when it is masked.
// False: the message is not UTF-8.
func (x *text) take(part, scratch []byte) bool {
	if x.at < 0 {
		header := min(len(part), -x.at)
		part = part[header:]
		if x.at += header; len(part) == 0 {
			return true
		}
	}
	pos := x.at
	x.at = (pos + len(part)) & 3 // all that unmasking asks
	x.n += int64(len(part))
	if x.masked {
		return x.seen.AddMasked(part, x.mask, pos, scratch)
	}
	return x.seen.Add(part)
}

// whole reports whether the message may end here.
func (x *text) whole() bool { return !x.checked || x.seen.Whole() }

// isText reports whether the payload of a message of one frame is UTF-8.
func (p *pump) isText(h *wsframe.Header, payload []byte) bool {
	var v wsframe.UTF8
	if h.Masked {
		return v.AddMasked(payload, h.Mask, 0, p.buf.scratch[:]) && v.Whole()
	}
	return v.Add(payload) && v.Whole()
}

// notText is the cause when a text message is not UTF-8, as its first n bytes
// tell.
func (p *pump) notText(n int64) *Cause {
	p.t.o.Metrics.Dropped(metrics.DroppedInvalid).Inc()
	return p.t.broken(p.dir, &wsframe.Error{
		Code:   wsframe.CloseInvalidPayload,
		Reason: fmt.Sprintf("text message is not UTF-8, its first %d bytes tell (RFC 6455 §8.1)", n),
	})
}
