package relay

import (
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"weir/hostabi"
	"weir/proxy/jsonpeek"
	"weir/proxy/policy"
	"weir/proxy/wsframe"
)

// pump carries one direction of a tunnel, in a goroutine of its own or on a
// loop. It ends when its leg has sent a close frame or is lost, or when the
// tunnel ends.
type pump struct {
	t   *Tunnel
	dir hostabi.Direction
	in  *leg // read from
	out *leg // written to
	seq wsframe.Sequence

	loop onLoop // not used by a pump with a goroutine of its own

	set    *Settings // of the batch at hand
	now    time.Time // of the batch at hand
	memos  *memos    // for the batch at hand
	buf    *buffer   // nil while there is nothing to hold
	got    int       // bytes that the last read brought
	length int       // of the last whole message, with its header
	carry  []byte    // bytes of an incomplete frame while there is no buffer

	due     int   // bytes of that frame that are waited for, with its header
	charged int64 // of the memory budget, for the buffer that it waits in

	state  state
	fin    bool     // the current frame is its message's last
	active bool     // the batch at hand has a part of a message
	left   int64    // bytes of the current frame not consumed yet
	hold   *held    // fragments of a message not yet complete
	refuse *refusal // the message being drained
	text   text     // of the message that comes in parts

	seen    seenKeys
	limited int // messages above message_rate in a row

	messages, bytes counter
	shed, conflated counter
	refused, lost   counter
}

// state is what the payload bytes that come next belong to.
type state uint8

const (
	atFrame  state = iota // a frame header comes next
	cutting               // a large frame being passed through
	holding               // a fragment
	refusing              // a message that is drained
	dropping              // a large droppable message that is shed
)

func (p *pump) init(t *Tunnel, d hostabi.Direction, buffered []byte) {
	p.t, p.dir = t, d
	p.in, p.out = &t.legs[d], t.toward(d)
	p.seq = wsframe.NewSequence(d == hostabi.ToUpstream)
	p.carry = buffered
	p.loop.tr, _ = p.in.tr.(polled)
}

// early carries what came with the handshake. False: the pump has come to its
// end.
func (p *pump) early() (*Cause, bool) {
	early := p.carry
	p.carry = nil
	for len(early) > 0 {
		n := copy(p.Space(), early)
		early = early[n:]
		if c, more := p.all(n); !more {
			return c, false
		}
	}
	p.Idle()
	return nil, true
}

// run reads until there is a reason to stop. A nil cause means that the leg has
// sent its close frame and the tunnel is waiting for the other's.
func (p *pump) run() *Cause {
	if c, more := p.early(); !more {
		return c
	}
	for {
		n, err := p.in.tr.ReadTo(p)
		if n > 0 {
			if c, more := p.all(n); !more {
				return c
			}
			continue
		}
		if p.t.ended() || errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		return p.t.lost(p.dir, err)
	}
}

// release gives back what the pump holds.
func (p *pump) release() {
	if p.buf != nil {
		p.buf.release()
		p.buf = nil
	}
	p.carry = nil
	p.charge(0)
	p.dropHeld()
}

// batch judges n bytes that were read with one set of settings and one reading
// of the clock, and sends them on. False: the pump has come to its end.
func (p *pump) batch(n int) (*Cause, bool) {
	p.charge(0) // it waits no more
	p.buf.w += n
	p.got = n
	p.now = time.Now()
	now := p.t.since(p.now)
	p.in.lastRead.Store(now)
	if set := p.t.o.Route.Load(); set != p.set {
		p.set = set
		p.out.sink.configure(set)
		if p.dir == hostabi.ToUpstream {
			p.t.setRate(&set.Limits)
		}
	}
	p.active = p.state != atFrame
	p.loop.unjudged = false
	p.borrowMemos()
	c, more := p.frames()
	p.noteUsed()
	p.returnMemos()
	if p.active {
		p.t.lastMessage.Store(now)
	}
	return c, more
}

// frames consumes every complete frame in the buffer, and of an incomplete one
// what can be passed on. What is allowed as it stands is collected into a run
// and sent at once, the same bytes.
func (p *pump) frames() (*Cause, bool) {
	b := p.buf
	run := b.r // start of the run; ends at b.r
	var h wsframe.Header
	for b.r < b.w {
		if p.loop.writes >= mostWrites {
			p.loop.unjudged = true
			break
		}
		if p.state != atFrame {
			if c := p.payload(); c != nil {
				return c, false
			}
			run = b.r
			continue
		}
		if b.judged >= p.longest() {
			p.send(run)
			run = b.r
			continue
		}
		if p.plain() {
			if p.alike(run); b.judged >= p.longest() || b.r == b.w {
				continue
			}
		}
		ok, err := h.Parse(b.data[b.r:b.w])
		if err == nil && ok {
			err = p.seq.Check(&h)
		}
		if err != nil {
			p.send(run)
			return p.t.broken(p.dir, err), false
		}
		if !ok {
			break
		}
		whole := h.Length <= int64(b.w-b.r-h.Size)
		if h.Opcode.IsControl() {
			if !whole {
				break
			}
			if c, more := p.control(&h, &run); !more {
				return c, false
			}
		} else {
			p.active = true
			if h.Fin && h.Opcode != wsframe.Continuation && whole && h.Length <= p.set.Limits.MaxMessageSize {
				if c := p.message(&h, &run); c != nil {
					return c, false
				}
			} else {
				if p.wantsMore(&h) {
					p.await(&h)
					break
				}
				p.send(run)
				if c := p.begin(&h); c != nil {
					return c, false
				}
				run = b.r
			}
		}
	}
	p.send(run)
	return nil, true
}

// longest is how many messages are judged before they are sent on: where the queue may
// refuse each of them, as many as may be answered still in this turn.
func (p *pump) longest() int {
	if p.dir == hostabi.ToUpstream && p.out.sink.queueing() {
		return mostWrites - p.loop.writes
	}
	return maxRun
}

// wantsMore reports whether a data frame that is not whole should wait for more
// bytes: until it is complete when the buffer can hold it, and otherwise until
// as much of it is here as the event key may need.
func (p *pump) wantsMore(h *wsframe.Header) bool {
	have := int64(p.buf.w - p.buf.r - h.Size)
	if h.Length <= have || p.refuse != nil || p.hold != nil || !h.Fin || h.Length > p.set.Limits.MaxMessageSize {
		return false
	}
	return fits(h) || have < peekSize
}

// fits reports whether a buffer can hold the frame.
func fits(h *wsframe.Header) bool { return h.Length <= bufferSize-int64(h.Size) }

// message adds a complete unfragmented message to the run, or refuses it.
func (p *pump) message(h *wsframe.Header, run *int) *Cause {
	b := p.buf
	end := b.r + h.Size + int(h.Length)
	payload := b.data[b.r+h.Size : end]
	rule := p.rule(h, payload)
	if br := p.exceeds(h.Length, rule); br.code != "" {
		p.send(*run)
		c := p.refuseWhole(br, p.peek(h, payload, peekSize))
		b.r, *run = end, end
		return c
	}
	if p.set.Limits.ValidateUTF8 && h.Opcode == wsframe.Text && !p.isText(h, payload) {
		p.send(*run)
		return p.notText(h.Length)
	}
	p.length = end - b.r
	b.r = end
	b.judge(message{rule: rule, end: end - *run})
	return nil
}

// exceeds returns the ceiling that a message of size bytes breaks.
func (p *pump) exceeds(size int64, rule *policy.Rule) breach {
	above := p.spend()
	switch limit := p.set.Limits.MaxMessageSize; {
	case size > limit:
		return oversize(limit, size)
	case rule.MaxSize > 0 && size > rule.MaxSize:
		return breach{code: hostabi.PayloadTooLarge, ceiling: "the policy's max_size of its kind,", limit: rule.MaxSize, actual: size}
	case above != nil:
		return breach{code: hostabi.RateLimited, limit: int64(above.Limit()), actual: -1}
	}
	return breach{}
}

// spend takes what a message of the client costs of message_rate, also one that is
// refused for another reason; not nil: it was not there.
func (p *pump) spend() (above *rate.Limiter) {
	if p.dir == hostabi.ToUpstream {
		above = p.t.limiter.Load()
	}
	if above == nil || above.AllowN(p.now, 1) {
		p.limited = 0
		return nil
	}
	p.limited++
	return above
}

// peek returns at most n bytes of the beginning of a frame's payload, unmasked
// into scratch when it is masked.
func (p *pump) peek(h *wsframe.Header, payload []byte, n int) []byte {
	payload = payload[:min(len(payload), n)]
	if !h.Masked {
		return payload
	}
	wsframe.CopyMask(p.buf.scratch[:], payload, h.Mask, 0)
	return p.buf.scratch[:len(payload)]
}

// rule reads the event key from the beginning of a message and returns what the
// policy says about it. Most keys stand at the very front, so little is
// unmasked at first, and most messages begin like one of the last.
func (p *pump) rule(h *wsframe.Header, payload []byte) *policy.Rule {
	view := p.set.View
	k := view.Key()
	if k == nil {
		return p.ruleOf(nil)
	}
	ms := p.memos
	long := len(payload) >= memoMessage
	if long {
		if m := ms.find(payload, spread(h.Mask)); m != nil {
			return m.rule
		}
	}
	head := p.peek(h, payload, peekFirst)
	key, decisive, r := k.AppendFrom(p.buf.key[:0], head)
	if r == jsonpeek.Truncated && len(payload) > peekFirst {
		head = p.peek(h, payload, peekSize)
		key, decisive, r = k.AppendFrom(p.buf.key[:0], head)
	}
	if r != jsonpeek.Found {
		return p.unnamed(r, h.Length)
	}
	rule := p.ruleOf(key)
	if name, ok := p.seen.note(key); ok && long && rule == view.Cached(p.dir, key) {
		p.noteUsed()
		ms.keep(head[:decisive], name, rule)
	}
	return rule
}

// noteUsed remembers the event keys that memos were used for: they may be
// another tunnel's. In a crowd the policy forgets what nobody looks up.
func (p *pump) noteUsed() {
	crowded := p.set.View.Crowded(p.now)
	for i := range p.memos.of[:p.memos.n] {
		m := &p.memos.of[i]
		if m.used && !slices.Contains(p.seen.keys, m.key) {
			p.seen.note([]byte(m.key))
		}
		if m.used && crowded {
			p.set.View.Cached(p.dir, []byte(m.key))
		}
		m.used = false
	}
}

// keyOf returns the event key of a message that begins with prefix, nil for
// none. It may lie in the buffer.
func (p *pump) keyOf(prefix []byte) []byte {
	if k := p.set.View.Key(); k != nil {
		if key, r := k.Append(p.buf.key[:0], prefix); r == jsonpeek.Found {
			return key
		}
	}
	return nil
}

// ruleOfPrefix is rule for a message of n bytes of which all that is read is prefix.
func (p *pump) ruleOfPrefix(prefix []byte, n int64) *policy.Rule {
	k := p.set.View.Key()
	if k == nil {
		return p.ruleOf(nil)
	}
	key, r := k.Append(p.buf.key[:0], prefix)
	if r != jsonpeek.Found {
		return p.unnamed(r, n)
	}
	return p.ruleOf(key)
}

// unnamed is rule for a message of n bytes whose key was not found. Where that may
// stand behind what was read it is critical: it may be of a kind that is never shed.
func (p *pump) unnamed(r jsonpeek.Result, n int64) *policy.Rule {
	rule := p.ruleOf(nil)
	if r == jsonpeek.Truncated && n > peekSize && rule.Class == hostabi.Droppable {
		return &policy.Rule{MaxSize: rule.MaxSize}
	}
	return rule
}

// ruleOf is the last step of rule: what the policy says about a key. The guest
// may take its time.
func (p *pump) ruleOf(key []byte) *policy.Rule {
	p.seen.note(key)
	if rule := p.set.View.Settled(p.dir, key, &p.t.budget); rule != nil {
		return rule
	}
	p.leaveLoop()
	return p.set.View.Rule(p.dir, key, nil)
}

// send passes the run on: the bytes from start to what is consumed.
func (p *pump) send(start int) {
	b := p.buf
	if len(b.msgs) > 0 {
		p.out.sink.send(p, b.data[start:b.r], b.msgs)
		b.msgs, b.judged = b.msgs[:0], 0
	}
}

// control handles a control frame. Pongs that answer Weir's own pings end here;
// everything else is passed on in its place among the messages.
func (p *pump) control(h *wsframe.Header, run *int) (*Cause, bool) {
	b := p.buf
	end := b.r + h.Size + int(h.Length)
	var room [wsframe.MaxControlPayload]byte
	payload := room[:wsframe.CopyMask(room[:], b.data[b.r+h.Size:end], h.Mask, 0)]
	if h.Opcode == wsframe.Pong && p.in.answered(payload) {
		p.send(*run)
		b.r, *run = end, end
		return nil, true
	}
	m := message{end: end - *run, control: true}
	if h.Opcode != wsframe.Close {
		b.judge(m)
		b.r = end
		return nil, true
	}
	code, reason, err := wsframe.ParseClose(payload)
	if err != nil {
		p.send(*run)
		return p.t.broken(p.dir, err), false
	}
	if c := p.t.answersOurs(p.dir); c != nil {
		p.send(*run) // and not the answer: the client is told why as Weir says it
		return c, false
	}
	m.closing = true
	b.judge(m)
	b.r = end
	p.t.closeReceived(p.dir, code, reason)
	p.send(*run)
	return p.t.closePassed(), false
}
