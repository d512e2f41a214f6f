package flow

import "slices"

// note is a gap that is told: the wire form of its notice, which was offered to
// be written or can be recalled no more.
type note struct {
	before uint64 // it stands before the message of that number, or what comes next behind
	wire   []byte
	off    int // written
	begun  bool
}

// Next returns bytes to write, from the head: those that lie together as they
// lie, or as many as scratch takes of what does not. It is nil when nothing
// waits. The slice is valid until the next call that changes the queue.
func (q *Queue) Next(scratch []byte) []byte {
	q.withdraw()
	told := 0 // of notes
	o := offer{scratch: scratch}
	for q.rewind(); ; {
		c := q.oldest()
		number, gap := q.number+1, &q.gap
		if c != nil {
			number, gap = c.at.number, &c.at.gap
		}
		for ; told < len(q.notes) && q.notes[told].before <= number; told++ {
			if !o.add(q.notes[told].wire[q.notes[told].off:], nil) {
				return o.bytes()
			}
		}
		if *gap > 0 {
			wire := q.render(*gap)
			switch {
			case len(wire) > 0:
				q.notes = append(q.notes, note{before: number, wire: wire})
				told++
				if !o.add(wire, nil) {
					return o.bytes()
				}
			default:
				*gap = 0
				if c != nil {
					c.rewrite()
				}
			}
		}
		if c == nil || !o.add(q.rest(c), c.lies()) {
			break
		}
		c.step()
	}
	if len(o.bytes()) == 0 {
		q.tidy()
		return nil
	}
	return o.bytes()
}

func (q *Queue) render(gap uint64) []byte {
	if q.notice == nil {
		return nil
	}
	return q.notice(nil, int64(gap))
}

// withdraw forgets notices of which nothing has begun: what they count may
// change.
func (q *Queue) withdraw() {
	if len(q.notes) > 0 {
		q.notes = slices.DeleteFunc(q.notes, func(n note) bool { return !n.begun || n.off == len(n.wire) })
	}
	if len(q.notes) == 0 {
		q.notes = nil
	}
}

// offer is what Next collects.
type offer struct {
	scratch []byte
	run     []byte // bytes that lie together
	in      *block // there
	n       int    // of scratch, when what was found lies apart
}

// add takes in what comes next, of a block or not. False: there is no more
// room.
func (o *offer) add(piece []byte, in *block) bool {
	switch {
	case o.n > 0:
	case o.run == nil:
		o.run, o.in = piece, in
		return true
	case in != nil && in == o.in && len(piece) > 0 && &o.run[:len(o.run)+1][len(o.run)] == &piece[0]:
		o.run = o.run[:len(o.run)+len(piece)]
		return true
	case len(o.run) >= len(o.scratch):
		return false
	default:
		o.n = copy(o.scratch, o.run)
	}
	o.n += copy(o.scratch[o.n:], piece)
	return o.n < len(o.scratch)
}

func (o *offer) bytes() []byte {
	if o.n > 0 {
		return o.scratch[:o.n]
	}
	return o.run
}

// Wrote takes away the first n bytes of what Next has returned: they are on the
// wire. pending bytes behind them are encrypted already and can be recalled no
// more.
func (q *Queue) Wrote(n, pending int) {
	told := 0
	q.sealed = 0
	for q.rewind(); n > 0 || pending > 0; {
		c := q.oldest()
		number, gap := q.number+1, &q.gap
		if c != nil {
			number, gap = c.at.number, &c.at.gap
		}
		if told < len(q.notes) && q.notes[told].before <= number {
			nt := &q.notes[told]
			if !nt.begun {
				nt.begun = true
				*gap = 0
				if c != nil {
					c.rewrite()
				}
			}
			took := min(n, len(nt.wire)-nt.off)
			nt.off += took
			n -= took
			pending -= min(pending, len(nt.wire)-nt.off)
			told++
			continue
		}
		if c == nil {
			break
		}
		q.begin(c)
		rest := len(q.rest(c))
		took := min(n, rest)
		n -= took
		ahead := min(pending, rest-took)
		if c.at.flags&(lent|control) == 0 {
			q.sealed += int64(ahead)
		}
		q.advance(c, took, took == rest)
		pending -= ahead
		c.step()
	}
	q.withdraw()
	q.tidy()
}

// advance takes n bytes off the front of the record at c's cursor, which is the
// queue's oldest: they are on the wire.
func (q *Queue) advance(c *chain, n int, whole bool) {
	r, b := &c.at.record, c.here()
	if r.flags&own == 0 {
		q.tally.WrittenBytes += int64(n)
	}
	switch {
	case whole:
		before := q.messages
		q.remove(c)
		q.tally.Written += int64(before - q.messages)
		b.first, b.off = c.at.i+1, 0
	case n == 0:
	case r.flags&lent != 0:
		l := q.loan(c.at.number)
		l.buf = l.buf[n:]
		if l.done {
			q.release(int64(n))
		}
	default:
		if r.flags&control != 0 {
			q.control -= int64(n)
			q.release(int64(n))
		} else {
			q.bytes -= int64(n)
			q.giveBack(int64(n))
		}
		c.live -= n
		if b.first != c.at.i {
			b.first, b.off = c.at.i, 0
		}
		b.off += n
	}
}
