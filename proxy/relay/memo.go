package relay

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"weir/hostabi"
	"weir/proxy/policy"
	"weir/proxy/wsframe"
)

// memos are rules that were looked up lately. They last as long as the view
// does that they are of, and serve whoever borrows the buffer.
type memos struct {
	view *policy.View
	of   [4]memo
	used uint8 // bits of those that the batch at hand used
	n    int   // of them are kept
	next int   // is replaced next
}

// memo is the rule of every message that begins with prefix.
type memo struct {
	prefix      string // decides the event key
	first, next uint64 // its first 8 bytes, and the 8 behind them if it has them
	last        uint64 // its last 8 bytes,
	at          int    // from here on
	most        int    // bytes that a message may have by the rule
	rule        *policy.Rule
	key         string
}

// Bytes of a prefix that is kept: what stands before a key is at least {"":".
const (
	memoPrefixMin = 8
	memoPrefix    = 64
)

// spread is a mask as words of payload are masked with it, 0 without.
func spread(mask [4]byte) uint64 {
	m := uint64(binary.LittleEndian.Uint32(mask[:]))
	return m<<32 | m
}

// find returns the memo for a message, nil when there is none.
func (ms *memos) find(payload []byte, mask uint64) *memo {
	if len(payload) < memoPrefixMin {
		return nil
	}
	first := word(payload) ^ mask
	for i := range ms.of[:ms.n] {
		if m := &ms.of[i]; m.first == first && m.ends(payload, mask) && m.agrees(payload, mask) {
			ms.used |= 1 << i
			return m
		}
	}
	return nil
}

// ends compares the last word, where prefixes differ, under the mask.
func (m *memo) ends(payload []byte, mask uint64) bool {
	return m.at <= len(payload)-8 && word(payload[m.at:])^bits.RotateLeft64(mask, -8*m.at) == m.last
}

// agrees compares what first and last leave.
func (m *memo) agrees(payload []byte, mask uint64) bool {
	return m.at <= 8 || word(payload[8:])^mask == m.next && (m.at <= 16 || m.agreesFar(payload, mask))
}

func (m *memo) agreesFar(payload []byte, mask uint64) bool {
	for i := 16; i < m.at; i++ {
		if payload[i]^byte(mask>>(8*(i&7))) != m.prefix[i] {
			return false
		}
	}
	return true
}

func word(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// keep adds a rule for messages that begin with prefix.
func (ms *memos) keep(prefix []byte, key string, rule *policy.Rule) {
	n := len(prefix)
	if n < memoPrefixMin || n > memoPrefix {
		return
	}
	m := memo{prefix: string(prefix), first: word(prefix), at: n - 8, last: word(prefix[n-8:]), most: math.MaxInt, rule: rule, key: key}
	if n >= 16 {
		m.next = word(prefix[8:])
	}
	if rule.MaxSize > 0 {
		m.most = int(min(rule.MaxSize, math.MaxInt))
	}
	ms.of[ms.next] = m
	ms.next = (ms.next + 1) % len(ms.of)
	ms.n = min(ms.n+1, len(ms.of))
}

// plain reports whether messages of the batch at hand may pass for nothing but
// their length and their memo.
func (p *pump) plain() bool {
	return !p.seq.InMessage() && !p.set.Limits.ValidateUTF8 && p.buf.memos[p.dir].view == p.set.View &&
		(p.dir == hostabi.ToClient || p.t.limiter.Load() == nil)
}

// alike adds to the run, which begins at byte run, the messages that come next
// and have a memo. What it leaves is for frames to look at.
func (p *pump) alike(run int) {
	b := p.buf
	ms := &b.memos[p.dir]
	limit := int(min(p.set.Limits.MaxMessageSize, math.MaxInt))
	masked := p.dir == hostabi.ToUpstream
	data, r := b.data[:b.w], b.r
	n, most := 0, maxRun-b.judged
	for n < most && len(data)-r >= wsframe.MaxHeader {
		size, length := wsframe.Ordinary(binary.LittleEndian.Uint32(data[r:]), masked)
		start := r + size
		if size == 0 || length < memoPrefixMin || length > limit || length > len(data)-start {
			break
		}
		payload := data[start : start+length]
		var mask uint64
		if masked {
			mask = spread([4]byte(data[start-4:]))
		}
		m := ms.find(payload, mask)
		if m == nil || length > m.most {
			break
		}
		r = start + length
		n++
	}
	if n > 0 {
		b.r = r
		b.judged += n
		b.msgs = append(b.msgs, message{many: n, end: r - run})
		p.active = true
	}
}

// each returns ms with every message by itself and its rule.
func (p *pump) each(wire []byte, ms []message) []message {
	if !slices.ContainsFunc(ms, func(m message) bool { return m.many > 0 }) {
		return ms
	}
	b := p.buf
	all, start := b.apart[:0], 0
	for i := range ms {
		if ms[i].many == 0 {
			all = append(all, ms[i])
			start = ms[i].end
		}
		for start < ms[i].end {
			h, _, _ := wsframe.Parse(wire[start:])
			end := start + h.Size + int(h.Length)
			all = append(all, message{rule: p.rule(&h, wire[start+h.Size:end]), end: end})
			start = end
		}
	}
	b.apart = all
	return all
}
