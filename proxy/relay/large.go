package relay

import (
	"weir/hostabi"
	"weir/proxy/jsonpeek"
	"weir/proxy/wsframe"
)

// held is a fragmented message on its way in: nothing of it is sent before its
// last fragment is here, so that a refusal never leaves half a message at the
// receiver.
type held struct {
	wire     []byte // frames as they came
	payload  int64  // bytes of payload declared so far
	reserved int64  // in the memory budget
}

// heldOverhead bounds what a held message may cost beyond its payload: an
// endless row of tiny or empty fragments is all headers.
const heldOverhead = 4 << 10

// begin takes the header of a data frame that is not simply a whole message:
// too large, a fragment, or larger than the buffer.
func (p *pump) begin(h *wsframe.Header) *Cause {
	b := p.buf
	limit := p.set.Limits.MaxMessageSize
	p.left, p.fin = h.Length, h.Fin
	start := b.r
	b.r += h.Size
	switch {
	case p.refuse != nil:
		p.state = refusing
		p.refuse.header(h)
		if p.refuse.drained > p.refuse.ceiling {
			return p.drainedTooMuch()
		}
	case !h.Fin || h.Opcode == wsframe.Continuation:
		if p.hold == nil {
			p.hold = &held{}
		}
		p.hold.payload += h.Length
		p.state = holding
		switch {
		case p.hold.payload > limit:
			return p.startRefusing(h, hostabi.PayloadTooLarge, limit, p.hold.payload)
		case int64(len(p.hold.wire)+h.Size) > 2*limit+heldOverhead:
			return p.startRefusing(h, hostabi.PayloadTooLarge, limit, int64(len(p.hold.wire)+h.Size))
		case !p.keep(b.data[start:b.r]):
			return p.startRefusing(h, hostabi.PendingLimit, p.t.o.Route.Memory.Max(), p.t.o.Route.Memory.Used())
		}
	case h.Length > limit:
		return p.startRefusing(h, hostabi.PayloadTooLarge, limit, h.Length)
	default:
		return p.beginLarge(h, start)
	}
	return p.frameEnd()
}

// beginLarge starts to pass through a message larger than the buffer.
func (p *pump) beginLarge(h *wsframe.Header, start int) *Cause {
	b := p.buf
	payload := b.data[b.r:min(b.w, b.r+int(min(h.Length, bufferSize)))]
	key, rule := p.rule(h, payload)
	if code, limit := p.exceeds(h.Length, rule); code != "" {
		return p.startRefusing(h, code, limit, h.Length)
	}
	m := message{rule: rule, key: key}
	if rule.Class == hostabi.Droppable && p.out.sink.congested() && p.recallable(&m, p.peek(h, payload, peekSize)) {
		p.out.sink.drop(p)
		p.state = dropping
		return nil
	}
	p.state = cutting
	p.out.sink.lockMessage()
	return p.out.sink.part(p, b.data[start:b.r], false)
}

// payload consumes what is here of the current frame's payload.
func (p *pump) payload() *Cause {
	b := p.buf
	n := int(min(p.left, int64(b.w-b.r)))
	part := b.data[b.r : b.r+n]
	b.r += n
	p.left -= int64(n)
	switch p.state {
	case cutting:
		if c := p.out.sink.part(p, part, p.left == 0); c != nil {
			return c
		}
	case holding:
		if !p.keep(part) {
			used := p.t.o.Route.Memory
			p.takePrefix()
			p.refusal(hostabi.PendingLimit, used.Max(), used.Used())
			p.state = refusing
		}
	case refusing:
		p.refuse.take(part)
	}
	return p.frameEnd()
}

// frameEnd does what is due when the current frame is consumed.
func (p *pump) frameEnd() *Cause {
	if p.state == refusing {
		if c := p.answerWhenKnown(p.left == 0 && p.fin); c != nil {
			return c
		}
	}
	if p.left > 0 {
		return nil
	}
	was := p.state
	p.state = atFrame
	switch {
	case was == holding && p.fin:
		return p.sendHeld()
	case was == refusing && p.fin:
		p.refuse = nil
	case was == cutting:
		p.out.sink.unlockMessage()
	}
	return nil
}

// keep adds bytes to the held message. False: the memory budget is full.
func (p *pump) keep(part []byte) bool {
	if !p.t.o.Route.Memory.Reserve(int64(len(part))) {
		p.t.o.Pressure()
		return false
	}
	p.hold.reserved += int64(len(part))
	p.hold.wire = append(p.hold.wire, part...)
	return true
}

// sendHeld judges a fragmented message that is complete and sends its frames as
// they came.
func (p *pump) sendHeld() *Cause {
	defer p.dropHeld()
	prefix := p.hold.prefix(p.buf.scratch[:0])
	var key []byte
	if k := p.set.View.Key(); k != nil {
		if found, r := k.Append(p.buf.key[:0], prefix); r == jsonpeek.Found {
			key = found
		}
	}
	name, rule := p.ruleOf(key)
	if code, limit := p.exceeds(p.hold.payload, rule); code != "" {
		return p.refuseWhole(code, limit, p.hold.payload, name, prefix)
	}
	return p.out.sink.send(p, p.hold.wire, []message{{end: len(p.hold.wire), rule: rule, key: name}})
}

func (p *pump) dropHeld() {
	if p.hold != nil {
		p.t.o.Route.Memory.Release(p.hold.reserved)
		p.hold = nil
	}
}

// prefix appends the beginning of the message, unmasked, to dst, whose capacity
// bounds it.
func (h *held) prefix(dst []byte) []byte { return messagePrefix(dst, h.wire) }

// messagePrefix appends the unmasked payload of the frames in wire to dst, as
// far as its capacity goes. The last frame may be cut short.
func messagePrefix(dst, wire []byte) []byte {
	for len(wire) > 0 && len(dst) < cap(dst) {
		h, ok, err := wsframe.Parse(wire)
		if err != nil || !ok {
			break
		}
		payload := wire[h.Size:min(int64(len(wire)), int64(h.Size)+h.Length)]
		part := payload[:min(len(payload), cap(dst)-len(dst))]
		n := len(dst)
		dst = dst[:n+len(part)]
		wsframe.CopyMask(dst[n:], part, h.Mask, 0)
		wire = wire[h.Size+len(payload):]
	}
	return dst
}
