package relay

import (
	"math/bits"
	"sync"

	"weir/proxy/policy"
	"weir/proxy/wsframe"
)

// Sizes of buffers are powers of two.
const (
	readSize   = 128 << 10 // what one read takes
	slowSize   = 16 << 10  // what one read takes toward a peer whose queue is full
	bufferSize = 64 << 10  // frames up to this are waited for whole; larger ones are passed through in parts
	leastSize  = 4 << 10   // what the beginning of a frame waits in, at least
	peekSize   = 4 << 10   // of a message, seen by the event key and kept fields
	peekFirst  = 64        // tried before the whole of peekSize
	carrySize  = 2 << 10   // less than this waits in memory of its own, not in a buffer
	maxRun     = 1024      // messages judged before they are sent on
)

// buffer is what a pump borrows while it has bytes at hand. Bytes r..w of data
// are read and not yet consumed.
type buffer struct {
	data    []byte // readSize, or less for what waits for its rest
	r, w    int
	scratch [peekSize]byte // unmasked beginning of a message
	key     [256]byte
	msgs    []message
	judged  int       // messages and control frames in msgs
	apart   []message // msgs with each by itself
}

// message is one whole message (or control frame) of a run, or many that were
// found alike; it begins where the one before it ends.
type message struct {
	rule    *policy.Rule // nil of control frames, and of many
	end     int          // of its frames, in the run's bytes
	many    int          // that it stands for; 0: it is one
	control bool
	closing bool // a close frame
}

// judge adds one to what is to be sent.
func (b *buffer) judge(m message) {
	b.msgs = append(b.msgs, m)
	b.judged++
}

// A pump reads into a large buffer. One that waits for the rest of a frame moves
// to one that holds just that: peers that stop inside a frame are many, readers at
// work are few. So are those that wait with what they read because the queue is
// full: theirs are slow.
var pools [18]sync.Pool // by the logarithm of the size

// sizeFor is the size of the buffer that n bytes wait in.
func sizeFor(n int) int { return 1 << bits.Len(uint(max(n, leastSize)-1)) }

const (
	bufferCost = 8 << 10 // about what a buffer that waits takes beside its data, in bytes
	keptMsgs   = 128     // of its msgs
)

// borrow takes a buffer of size bytes that begins with left.
func borrow(size int, left []byte) *buffer {
	b, _ := pools[bits.Len(uint(size-1))].Get().(*buffer)
	if b == nil {
		b = &buffer{data: make([]byte, size)}
	}
	b.r, b.w = 0, copy(b.data, left)
	return b
}

// release gives the buffer back.
func (b *buffer) release() {
	clear(b.msgs)
	clear(b.apart)
	b.msgs, b.apart, b.judged = b.msgs[:0], b.apart[:0], 0
	pools[bits.Len(uint(len(b.data)-1))].Put(b)
}

// left is how many bytes are not consumed.
func (b *buffer) left() int { return b.w - b.r }

// compact makes room behind what is not consumed. A full buffer always has
// something consumed: what is larger is passed on in parts.
func (b *buffer) compact() {
	if b.r > 0 {
		b.w = copy(b.data, b.data[b.r:b.w])
		b.r = 0
	}
}

// Space implements sock.Buffer. Behind what waits no more is read at once than
// half of what there is room for, so that a pump that has to wait holds little,
// and one that has much shed comes back to its loop soon.
func (p *pump) Space() []byte {
	most := max(p.out.sink.room.Load()/2, slowSize)
	slow := most == slowSize
	switch b := p.buf; {
	case b == nil:
		size := readSize
		if slow && len(p.carry) < slowSize {
			size = slowSize
		}
		p.buf = borrow(size, p.carry)
		p.carry = p.carry[:0]
	case b.left() == len(b.data): // the beginning of a longer frame
		p.move(sizeFor(p.due))
	case slow && b.left() < slowSize:
		if len(b.data) > slowSize {
			p.move(slowSize)
		}
	case !slow && len(b.data) < readSize && p.got >= b.left():
		// More comes at a time than has to be moved. To go on in the small one
		// would be to read little for as long as every read ends inside a frame.
		p.move(readSize)
	}
	p.buf.compact()
	space := p.buf.data[p.buf.w:]
	return space[:p.evenly(int(min(int64(len(space)), most)))]
}

// evenly returns how many of n bytes to read so that what is here ends with a
// message, if messages go on being as long as the last one: the beginning of
// another would have to be moved, unless it is short.
func (p *pump) evenly(n int) int {
	if p.length <= carrySize {
		return n
	}
	if rest := (p.buf.left() + n) % p.length; rest <= n/2 {
		return n - rest
	}
	return n
}

// move takes what is not consumed to a buffer of another size.
func (p *pump) move(size int) {
	b := p.buf
	p.buf = borrow(size, b.data[b.r:b.w])
	b.release()
}

// Idle implements sock.Buffer: a pump that waits holds no buffer unless a good
// part of a frame is in it, and then one that just holds the frame, which the
// memory budget is charged with.
func (p *pump) Idle() {
	b := p.buf
	if b == nil {
		return
	}
	left := b.data[b.r:b.w]
	switch size := sizeFor(p.due); {
	case len(left) == 0:
		p.carry, p.buf = nil, nil
		b.release()
		return
	case len(left) <= carrySize:
		p.carry, p.buf = append(p.carry[:0], left...), nil
		b.release()
		return
	case len(b.data) > size:
		p.move(size)
	}
	if cap(p.buf.msgs) > keptMsgs {
		p.buf.msgs, p.buf.apart = nil, nil
	}
	p.charge(int64(len(p.buf.data) + bufferCost))
}

// await notes what the beginning of a frame waits for.
func (p *pump) await(h *wsframe.Header) {
	p.due = h.Size + peekSize // when more than a buffer holds is to come
	if fits(h) {
		p.due = h.Size + int(h.Length)
	}
}

// charge sets what of the memory budget the buffer of a waiting pump takes. It
// may exceed the budget: a frame that is nearly here is the last thing to refuse,
// and the next tunnel the first.
func (p *pump) charge(n int64) {
	if n != p.charged {
		p.t.o.Route.Memory.TakeAside(n - p.charged)
		p.charged = n
	}
}
