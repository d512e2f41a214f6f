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

// memos are rules that were looked up lately, by messages of one direction. They
// are of one view, and serve whoever borrows them.
type memos struct {
	of   [8]memo
	n    int // of them are kept
	next int // is replaced next
}

// borrowMemos takes memos for a batch, of the view that it is judged by.
func (p *pump) borrowMemos() {
	p.memos, _ = p.set.View.Memos[p.dir].Get().(*memos)
	if p.memos == nil {
		p.memos = new(memos)
	}
}

// returnMemos gives them back.
func (p *pump) returnMemos() {
	p.set.View.Memos[p.dir].Put(p.memos)
	p.memos = nil
}

// memo is the rule of every message that begins with a prefix, which decides its
// event key. The prefix is kept in words of 8 bytes.
type memo struct {
	words [memoPrefix / 8]uint64 // as many whole ones as it has, and what the second one has of it
	known uint64                 // bits of the second word that are the prefix's
	last  uint64                 // the prefix's last 8 bytes,
	at    int                    // from here on
	most  int                    // bytes that a message may have by the rule
	rule  *policy.Rule
	key   string
	next  *memo // that of the message that came after one with this, last time
	used  bool  // by the batch at hand
}

// Bytes of a prefix that is kept. What stands before a key is at least {"":",
// and messages too short for two words are no work to look up.
const (
	memoPrefixMin = 8
	memoPrefix    = 64
	memoMessage   = 16 // bytes that a message has at least
)

// spread is a mask as words of payload are masked with it, 0 without.
func spread(mask [4]byte) uint64 {
	m := uint64(binary.LittleEndian.Uint32(mask[:]))
	return m<<32 | m
}

func word(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// find returns the memo for a message of memoMessage bytes or more, nil when
// there is none. It compares under the mask.
func (ms *memos) find(payload []byte, mask uint64) *memo {
	first, second := word(payload)^mask, word(payload[8:])^mask
	for i := range ms.of[:ms.n] {
		m := &ms.of[i]
		if m.starts(first, second) && m.ends(payload, mask) {
			m.used = true
			return m
		}
	}
	return nil
}

// starts compares the first two words.
func (m *memo) starts(first, second uint64) bool {
	return m.words[0]^first|(m.words[1]^second)&m.known == 0
}

// ends compares what stands behind them, if anything does.
func (m *memo) ends(payload []byte, mask uint64) bool {
	if m.at <= 8 {
		return true
	}
	if m.at > len(payload)-8 || word(payload[m.at:])^bits.RotateLeft64(mask, -8*m.at) != m.last {
		return false
	}
	for i := 16; i <= m.at; i += 8 {
		if word(payload[i:])^mask != m.words[i/8] {
			return false
		}
	}
	return true
}

// follow takes the messages at the beginning of data, most at most, that have the
// header and the length of the one before, as long as each has the memo that came
// after that of the one before it last time. What is sent comes many of a kind, or
// by turns: frames without a mask that have come to the memo of the first one again
// are only compared with those before. It returns how many there are and the last
// one's memo.
func (m *memo) follow(data []byte, header, same uint32, size, length int, masked bool, most int) (n int, last *memo) {
	step, reach := size+length, min(16, length-8)
	mask := uint64(0)
	first, frames, kinds := m.next, data, 0
	for last = m; n < most && len(data) >= step+wsframe.MaxHeader && binary.LittleEndian.Uint32(data)&same == header; {
		next := last.next
		if masked {
			mask = spread([4]byte(data[size-4:]))
		}
		payload := data[size:step]
		if !next.starts(word(payload)^mask, word(payload[8:])^mask) || next.at > reach || length > next.most ||
			word(payload[next.at:])^bits.RotateLeft64(mask, -8*next.at) != next.last {
			break
		}
		next.used = true
		n++
		data = data[step:]
		last = next
		if kinds++; next.next == first && !masked {
			again := first.turns(frames, kinds, step, size, most-n)
			n += again
			data = data[again*step:]
			for range again % kinds {
				last = last.next
			}
			frames, kinds = data, 0
			first = last.next
		}
	}
	return n, last
}

// opening is the first three words of a frame, and which bits of the last two are its
// header's and the prefix's of its memo.
type opening struct {
	words [3]uint64
	known [2]uint64
}

const openingSize = 24 // bytes of an opening

// turns returns how many frames of step bytes, most at most, follow the first kinds
// of them and begin like these by turns. The first one has the memo m, and each the
// memo that is next to that of the one before.
func (m *memo) turns(data []byte, kinds, step, size, most int) (n int) {
	var of [len(memos{}.of)]opening
	if kinds > len(of) || step < openingSize {
		return 0
	}
	for i := range kinds {
		end := size + m.at + 8
		if end > openingSize {
			return 0
		}
		t := &of[i]
		t.known = [2]uint64{^uint64(0) >> (64 - 8*min(end-8, 8)), ^uint64(0) >> (64 - 8*max(end-16, 0))}
		frame := data[:openingSize]
		t.words = [3]uint64{word(frame), word(frame[8:]) & t.known[0], word(frame[16:]) & t.known[1]}
		data, m = data[step:], m.next
	}
	for i := 0; n < most && len(data) >= step; n++ {
		frame, t := data[:openingSize], &of[i]
		if (word(frame)^t.words[0])|(word(frame[8:])&t.known[0]^t.words[1])|(word(frame[16:])&t.known[1]^t.words[2]) != 0 {
			break
		}
		if i++; i == kinds {
			i = 0
		}
		data = data[step:]
	}
	return n
}

// keep adds a rule for messages that begin with prefix.
func (ms *memos) keep(prefix []byte, key string, rule *policy.Rule) {
	n := len(prefix)
	if n < memoPrefixMin || n > memoPrefix {
		return
	}
	m := memo{last: word(prefix[n-8:]), at: n - 8, most: math.MaxInt, rule: rule, key: key}
	for i := range n {
		m.words[i/8] |= uint64(prefix[i]) << (8 * (i & 7))
	}
	m.known = ^uint64(0) >> (8 * (16 - min(n, 16)))
	if rule.MaxSize > 0 {
		m.most = int(min(rule.MaxSize, math.MaxInt))
	}
	m.next = &ms.of[ms.next]
	*m.next = m
	ms.next = (ms.next + 1) % len(ms.of)
	ms.n = min(ms.n+1, len(ms.of))
}

// plain reports whether messages of the batch at hand may pass for nothing but
// their length and their memo, or the rule that all have where none has a key.
func (p *pump) plain() bool {
	return !p.seq.InMessage() && !p.set.Limits.ValidateUTF8 &&
		(p.dir == hostabi.ToClient || p.t.limiter.Load() == nil)
}

// alike adds to the run, which begins at byte run, the messages that come next
// and have a memo. What it leaves is for frames to look at.
func (p *pump) alike(run int) {
	b := p.buf
	masked := p.dir == hostabi.ToUpstream
	least, limit := memoMessage, int(min(p.set.Limits.MaxMessageSize, math.MaxInt))
	keyless := p.set.View.Key() == nil
	if keyless {
		rule := p.set.View.Cached(p.dir, nil)
		if rule == nil || rule.MaxSize > 0 {
			return
		}
		least = 0
	}
	data, r := b.data[:b.w], b.r
	n, most := 0, p.longest()-b.judged

	// Of the header before. One that is equal has its lengths, so that the
	// processor need not wait for them to know where the next header stands.
	var size, length, step int
	header, bits := uint32(1), uint32(0)
	memos := p.memos.of[:p.memos.n]
	var last *memo // of the message before
next:
	for n < most && len(data)-r >= wsframe.MaxHeader {
		x := binary.LittleEndian.Uint32(data[r:])
		if x&bits != header {
			size, length = wsframe.Ordinary(x, masked)
			if size == 0 || length < least || length > limit {
				break
			}
			bits = 0xFFFF
			if length > 125 {
				bits = 0xFFFFFFFF
			}
			header = x & bits
		}
		start := r + size
		if length > len(data)-start {
			break
		}
		if keyless {
			step = size + length
			r += step
			n++
			continue
		}
		var mask uint64
		if masked {
			mask = spread([4]byte(data[start-4:]))
		}
		payload := data[start : start+length]
		first, second := word(payload)^mask, word(payload[8:])^mask
		for i := range memos {
			if m := &memos[i]; m.starts(first, second) && m.ends(payload, mask) {
				if length > m.most {
					break next
				}
				if last != nil {
					last.next = m
				}
				m.used = true
				step = size + length
				r += step
				n++
				var more int
				more, last = m.follow(data[r:], header, bits, size, length, masked, most-n)
				r += more * step
				n += more
				continue next
			}
		}
		break
	}
	if n > 0 {
		b.r = r
		p.length = step
		b.judged += n
		b.msgs = append(b.msgs, message{many: n, end: r - run})
		p.active = true
	}
}

// each returns ms with every message by itself and its rule. It asks no guest: the
// sink is locked.
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
			all = append(all, message{rule: p.known(&h, wire[start+h.Size:end]), end: end})
			start = end
		}
	}
	b.apart = all
	return all
}

// known is rule for a message that was found alike: by its memo, or else as it is
// cached. When both were given up since, it is the native default.
func (p *pump) known(h *wsframe.Header, payload []byte) *policy.Rule {
	if len(payload) >= memoMessage {
		if m := p.memos.find(payload, spread(h.Mask)); m != nil {
			return m.rule
		}
	}
	if rule := p.set.View.Cached(p.dir, p.keyOf(p.peek(h, payload, peekFirst))); rule != nil { // a memo keeps no more
		return rule
	}
	return &policy.Rule{}
}
