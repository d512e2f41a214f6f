package relay

import (
	"io"
	"time"

	"weir/hostabi"
	"weir/proxy/policy"
	"weir/proxy/wsframe"
)

// held is a fragmented message on its way in: nothing of it is sent before its
// last fragment is here, so that a refusal never leaves half a message at the
// receiver. So is a large one that may be shed: it waits in the queue whole.
type held struct {
	wire     []byte // frames as they came
	payload  int64  // bytes of payload declared so far
	reserved int64  // in the memory budget, for these frames and the beginning
	sheds    bool   // where there is no memory for it
	priority uint8  // of one that does

	beginning // read as it comes: before its first byte may stand millions of empty fragments
}

// beginning is the first peekSize bytes of a message that comes in parts, unmasked.
type beginning struct {
	prefix []byte
	mask   [4]byte // of the frame that comes in
	at     int     // bytes of its payload that have come
}

// frame notes the header of the message's next frame.
func (g *beginning) frame(h *wsframe.Header) { g.mask, g.at = h.Mask, 0 }

// take notes bytes of that frame's payload.
func (g *beginning) take(part []byte) {
	if room := peekSize - len(g.prefix); room > 0 {
		n := len(g.prefix)
		g.prefix = append(g.prefix, part[:min(len(part), room)]...)
		wsframe.Mask(g.prefix[n:], g.mask, g.at)
	}
	g.at += len(part)
}

// heldStart is the memory that a held message begins with, in bytes.
const heldStart = 512

// heldOverhead bounds what a held message may cost beyond its payload: an
// endless row of tiny or empty fragments is all headers.
const heldOverhead = 4 << 10

// begin takes the header of a data frame that is not simply a whole message:
// too large, a fragment, or larger than the buffer.
func (p *pump) begin(h *wsframe.Header) *Cause {
	limit := p.set.Limits.MaxMessageSize
	header := p.buf.data[p.buf.r : p.buf.r+h.Size]
	whole := h.Fin && h.Opcode != wsframe.Continuation
	if p.refuse == nil && whole && h.Length <= limit {
		rule := p.rule(h, p.here(h))
		sheds := rule.Class == hostabi.Droppable && p.out.sink.congested() && recallable(rule, p.peek(h, p.here(h), peekSize))
		if !sheds || !p.queues(h, rule) {
			return p.beginLarge(h, rule, sheds)
		}
		p.hold = &held{sheds: true, priority: rule.Priority}
	}
	p.buf.r += h.Size
	p.left, p.fin = h.Length, h.Fin
	switch {
	case p.refuse != nil:
		p.state = refusing
		p.refuse.header(h)
		if p.refuse.tooMuch() {
			return p.drainedTooMuch()
		}
		return p.frameEnd()
	case whole && h.Length > limit:
		return p.refuseUnjudged(h, oversize(limit, h.Length))
	}
	p.text.frame(h, p.set.Limits.ValidateUTF8)
	if p.hold == nil {
		p.hold = &held{}
	}
	p.hold.payload = sum(p.hold.payload, h.Length)
	p.hold.frame(h)
	p.state = holding
	frames := int64(len(p.hold.wire) + h.Size)
	switch {
	case p.hold.payload > limit:
		return p.refuseUnjudged(h, oversize(limit, p.hold.payload))
	case frames > 2*limit+heldOverhead:
		return p.refuseUnjudged(h, oversize(limit, frames))
	}
	switch br := p.keep(header); {
	case br.code == "":
	case p.hold.sheds:
		p.shedHeld()
	default:
		return p.refuseUnjudged(h, br)
	}
	return p.frameEnd()
}

// refuseUnjudged is startRefusing for a message of which exceeds was not asked.
func (p *pump) refuseUnjudged(h *wsframe.Header, br breach) *Cause {
	p.spend()
	return p.startRefusing(h, br)
}

// here returns what has come of a frame's payload.
func (p *pump) here(h *wsframe.Header) []byte {
	start := p.buf.r + h.Size
	return p.buf.data[start:min(p.buf.w, start+int(min(h.Length, bufferSize)))]
}

// queues reports whether a message larger than the buffer that is not sent now and may
// be shed is to wait in the queue like others: there can be room.
func (p *pump) queues(h *wsframe.Header, rule *policy.Rule) bool {
	return (rule.MaxSize == 0 || h.Length <= rule.MaxSize) && h.Length+int64(h.Size) <= p.set.Limits.MaxBufferedBytes
}

// beginLarge starts to pass through a message larger than the buffer, header
// and all, unless it is one that sheds.
func (p *pump) beginLarge(h *wsframe.Header, rule *policy.Rule, sheds bool) *Cause {
	b := p.buf
	start := b.r + h.Size
	br := p.exceeds(h.Length, rule)
	if br.code == "" && !sheds {
		br = p.out.sink.refuses(h.Length)
	}
	p.left, p.fin = h.Length, true
	switch {
	case br.code != "":
		b.r = start
		return p.startRefusing(h, br)
	case sheds:
		b.r = start
		p.state = dropping
		p.out.sink.drop()
	default:
		p.left += int64(h.Size)
		p.text.frame(h, p.set.Limits.ValidateUTF8)
		p.text.at = -h.Size
		p.state = cutting
		p.out.sink.awaitRoom(p, p.left)
		if !p.completes() {
			return p.t.lost(p.dir, io.ErrUnexpectedEOF)
		}
		p.out.sink.lockMessage()
	}
	return nil
}

// completes reports whether the rest of the large message at hand can still come. Who
// was found lost by a write sends nothing more: there is what the kernel has.
func (p *pump) completes() bool {
	back := &p.in.sink
	back.mu.Lock()
	lost := back.err != nil
	back.mu.Unlock()
	return !lost || int64(p.in.tr.Unread()) >= p.left-int64(p.buf.w-p.buf.r)
}

// payload consumes what is here of the current frame's payload.
func (p *pump) payload() *Cause {
	b := p.buf
	n := int(min(p.left, int64(b.w-b.r)))
	part := b.data[b.r : b.r+n]
	b.r += n
	p.left -= int64(n)
	if p.text.checked && (p.state == cutting || p.state == holding) && !p.text.take(part, p.buf.scratch[:]) {
		return p.notText(p.text.n)
	}
	switch p.state {
	case cutting:
		if p.left == 0 && !p.text.whole() {
			return p.notText(p.text.n)
		}
		p.out.sink.part(p, part, p.left == 0)
	case holding:
		br := p.keep(part)
		if br.code == "" {
			p.hold.take(part)
			break
		}
		if p.hold.sheds {
			p.shedHeld()
			break
		}
		p.spend()
		p.startRefusal(br)
		p.refuse.drained = int64(n) + p.left
		p.refuse.take(part)
		p.state = refusing
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

// keep adds bytes to the held message, unless the memory budget is full.
func (p *pump) keep(part []byte) breach {
	h := p.hold
	if need := len(h.wire) + len(part); need > cap(h.wire) {
		grown := max(need, 2*cap(h.wire), heldStart)
		if p.fin {
			grown = min(grown, need+int(p.left)) // which is all of it
		}
		begins := min(grown, peekSize) // which may be of the beginning, too
		more := int64(grown - cap(h.wire) + begins - cap(h.prefix))
		if h.sheds {
			if !p.out.sink.spare(h.priority, more) {
				return noMemory(0, more) // which nobody is told
			}
		} else if br := p.reserve(more); br.code != "" {
			return br
		}
		h.reserved += more
		h.wire = append(make([]byte, 0, grown), h.wire...)
		if begins > cap(h.prefix) {
			h.prefix = append(make([]byte, 0, begins), h.prefix...)
		}
	}
	h.wire = append(h.wire, part...)
	return breach{}
}

// A fragment that finds no memory waits for others to shed: so often, so long.
const (
	reserveTries = 20
	reserveWait  = 5 * time.Millisecond
)

// reserve takes n bytes of the memory budget. When it is full, every queue is
// asked to shed what it can, and the message waits a little for that.
func (p *pump) reserve(n int64) breach {
	memory := p.t.o.Route.Memory
	limit, used := memory.Take(n)
	if limit == 0 {
		return breach{}
	}
	p.leaveLoop()
	defer memory.Want(n)() // else those that shed would take it again at once
	for range reserveTries {
		p.t.o.Pressure()
		select {
		case <-p.t.done:
			return noMemory(limit, used)
		case <-time.After(reserveWait):
		}
		if limit, used = memory.Take(n); limit == 0 {
			return breach{}
		}
	}
	return noMemory(limit, used)
}

// sendHeld judges a fragmented message that is complete and sends its frames as
// they came.
func (p *pump) sendHeld() *Cause {
	defer p.dropHeld()
	if !p.text.whole() {
		return p.notText(p.text.n)
	}
	rule := p.ruleOfPrefix(p.hold.prefix, p.hold.payload)
	if br := p.exceeds(p.hold.payload, rule); br.code != "" {
		return p.refuseWhole(br, p.hold.prefix)
	}
	p.out.sink.send(p, p.hold.wire, []message{{rule: rule, end: len(p.hold.wire)}})
	return nil
}

// shedHeld gives up a held message that may be shed, and what is to come of it.
func (p *pump) shedHeld() {
	p.spend()
	p.dropHeld()
	p.state = dropping
	p.out.sink.drop()
}

func (p *pump) dropHeld() {
	p.giveBack()
	p.hold = nil
}

// giveBack returns what the held message has reserved.
func (p *pump) giveBack() {
	if p.hold != nil {
		p.t.o.Route.Memory.Release(p.hold.reserved)
		p.hold.reserved = 0
	}
}
