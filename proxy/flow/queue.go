// Package flow holds what waits toward a slow peer: a queue bounded to the
// byte that knows what it may shed, and the memory budget all queues share. It
// does no I/O, starts no goroutine and reads no clock.
package flow

import "slices"

// Message is one message as it goes on the wire, or the rest of one.
type Message struct {
	Wire []byte // frames, never empty; Push copies it
	// Droppable messages are shed when room is needed, the lowest Priority
	// first, then the oldest.
	Droppable bool
	Priority  uint8
	// Conflate, when not empty, names what a droppable message is the state of:
	// under pressure only the newest of a name is kept.
	Conflate string
	// Control marks a control frame: exempt from the limit, never shed.
	Control bool
	// Own marks what no peer sent, an envelope: it takes room like a message
	// and is not counted as one.
	Own bool
	// Begun marks bytes behind a beginning that has left already, or stands
	// right before them in the queue: they are recalled no more.
	Begun bool
	// Ends is how many messages end in Wire when it is Begun; 0: its message
	// goes on behind it.
	Ends int
}

// Tally counts what became of messages since it was last asked for.
type Tally struct {
	Written, WrittenBytes int64 // on the wire; the bytes with control frames, without Own and notices
	Shed, Conflated       int64 // given up to make room
}

// Queue is a bounded FIFO of messages on their way to one peer. It is not safe
// for concurrent use.
//
// Invariant: what messages cost, their bytes, a record and the name of a state,
// never exceeds the limit; what is reserved in the budget is that, and the same
// of control frames. The memory held is at most a quarter more than that is,
// and 2 blocks, and 1 KiB for each priority in use.
type Queue struct {
	limit  int64 // bytes of memory for messages
	budget *Budget
	notice func(dst []byte, count int64) []byte // nil: gaps are not told

	chains  []*chain // by ascending rank; none when nothing waits
	number  uint64   // of the last message that came
	begunTo uint64   // that number and every one before it have begun
	gap     uint64   // messages shed behind everything that waits
	notes   []note   // gaps on their way
	loans   []*Loan  // oldest first
	states  states

	messages   int   // that wait
	fixed      int   // of them: that have begun
	superseded int   // of them
	bytes      int64 // wire bytes of messages; control frames, notices and loans are exempt
	sealed     int64 // of them: encrypted
	room       int64 // what they cost
	control    int64 // wire bytes of control frames
	reserved   int64 // in the budget
	owed       int64 // to the budget
	held       int   // bytes of blocks
	tally      Tally
}

// Init makes the zero Queue one that holds at most limit bytes of messages, which
// are also reserved in budget. budget may be nil.
func (q *Queue) Init(limit int64, budget *Budget) { q.limit, q.budget = limit, budget }

// SetLimit changes the limit for what comes; nothing that waits is given up.
func (q *Queue) SetLimit(limit int64) { q.limit = limit }

// SetNotice has notice append the wire form of what tells the peer that count
// messages were shed in this place; nil: nobody is told. It may append nothing.
func (q *Queue) SetNotice(notice func(dst []byte, count int64) []byte) { q.notice = notice }

// Rename says that names of states mean others from now on: what comes supersedes
// nothing that waits.
func (q *Queue) Rename() { q.states.ids = nil }

// Bytes returns the wire bytes of the messages that wait in the queue's own
// memory.
func (q *Queue) Bytes() int64 { return q.bytes }

// Room returns how many bytes of memory for messages are free; below 0 when the
// limit was lowered.
func (q *Queue) Room() int64 { return q.limit - q.room }

// ControlBytes returns the wire bytes of the control frames that wait.
func (q *Queue) ControlBytes() int64 { return q.control }

// Messages returns how many messages wait, wholly or in part, loans included.
func (q *Queue) Messages() int { return q.messages }

// Waiting is Messages, of which those that have begun count as one, and Bytes without
// what is encrypted: a record of TLS has many, and nothing can be done about them any
// more.
func (q *Queue) Waiting() (messages int, bytes int64) {
	return q.messages - max(0, q.fixed-1), q.bytes - q.sealed
}

// Empty reports whether nothing waits.
func (q *Queue) Empty() bool { return len(q.chains) == 0 && q.gap == 0 && len(q.notes) == 0 }

// Tally returns what happened since the last call.
func (q *Queue) Tally() Tally {
	t := q.tally
	q.tally = Tally{}
	return t
}

// Push queues m, making room from what may be given up. False means that m
// does not fit: a droppable one has then been shed and counted, a critical one
// is still the caller's.
func (q *Queue) Push(m Message) bool {
	m.Droppable = m.Droppable && !m.Begun && !m.Own
	n := int64(len(m.Wire))
	rank := neverShed
	r := record{arg: uint32(m.count())}
	switch {
	case m.Control && !m.Begun:
		r.flags = control
		q.control += n
		q.reserved += n + recordSize
		q.budget.force(n + recordSize)
	case !q.makeRoom(&m, m.Cost()):
		if m.Droppable {
			q.Drop()
		}
		return false
	default:
		q.bytes += n
		switch {
		case m.Own:
			r.flags = own
		case m.Droppable:
			rank, r.arg = int(m.Priority), 0
		}
		if m.Begun {
			r.flags |= begun
		}
	}
	c := q.chain(rank)
	q.append(c, m.Wire, r, m.Conflate)
	return true
}

// append lays a message behind everything.
func (q *Queue) append(c *chain, wire []byte, r record, conflate string) {
	q.number++
	if c.droppable() {
		if conflate != "" {
			r.arg = q.supersede(c, conflate)
		}
		c.waiting++
		q.messages++
	} else {
		q.messages += int(r.arg)
	}
	r.gap, q.gap = q.gap, 0
	if added := c.lay(q.number, wire, r, func(left int) int { return c.grow(left, len(q.chains)) }); added > 0 {
		q.held += added
		q.tidy()
	}
}

// Cost is what m takes of the limit and of the budget, the name of its state
// aside.
func (m *Message) Cost() int64 { return int64(len(m.Wire)) + recordSize }

// count is how many messages end with m.
func (m *Message) count() int {
	switch {
	case m.Begun:
		return m.Ends
	case m.Own, m.Control:
		return 0
	}
	return 1
}

// chain returns the chain of a rank.
func (q *Queue) chain(rank int) *chain {
	i, found := slices.BinarySearchFunc(q.chains, rank, func(c *chain, rank int) int { return c.rank - rank })
	if !found {
		q.chains = slices.Insert(q.chains, i, &chain{rank: rank})
	}
	return q.chains[i]
}

// tidy is called when something went: it frees what nothing alive is in, and
// holds the memory to its bound.
func (q *Queue) tidy() {
	if q.owed > 0 {
		q.budget.Release(q.owed)
		q.owed = 0
	}
	used := 0
	for _, c := range q.chains {
		q.held -= c.sweep()
		used += c.live
	}
	switch {
	case used == 0:
		q.chains, q.states = nil, states{}
	case q.held > bound(used, len(q.chains)):
		for _, c := range q.chains {
			before, after := c.compact()
			q.held += after - before
		}
	}
}

// bound is the memory that may be held for used bytes in so many chains.
func bound(used, chains int) int { return used + used/4 + 2*maxBlock + chains<<10 }

// rewind sets every cursor to its chain's front.
func (q *Queue) rewind() {
	for _, c := range q.chains {
		c.set(place{})
	}
}

// oldest returns the chain whose cursor is at the oldest message, nil at the
// end.
func (q *Queue) oldest() (c *chain) {
	for _, o := range q.chains {
		if o.at.ok && (c == nil || o.at.number < c.at.number) {
			c = o
		}
	}
	return c
}

// rest returns the bytes of the record at c's cursor that are not written.
func (q *Queue) rest(c *chain) []byte {
	if c.at.flags&lent != 0 {
		return q.loan(c.at.number).buf
	}
	b := c.here()
	return b.mem[b.start(c.at.i):c.at.end]
}

// begin notes that a byte of the message at c's cursor can be recalled no more.
func (q *Queue) begin(c *chain) {
	if c.at.number <= q.begunTo {
		return
	}
	q.begunTo = c.at.number
	q.settle(c)
	q.fixed += c.ends()
}

// settle takes the message at c's cursor from what can be given up.
func (q *Queue) settle(c *chain) {
	switch {
	case !c.droppable():
	case c.at.flags&superseded != 0:
		c.here().superseded--
		c.superseded--
		q.superseded--
		c.at.flags &^= superseded
		c.rewrite()
	default:
		c.waiting--
		if c.at.arg != 0 {
			q.giveBack(q.states.remove(c.at.arg))
		}
	}
}

// remove takes the record at c's cursor out: it is written, or given up.
func (q *Queue) remove(c *chain) {
	r := &c.at.record
	n := int64(len(q.rest(c)))
	if r.flags&continued == 0 && c.at.number > q.begunTo {
		q.settle(c)
	}
	c.gone()
	cost := n
	if r.flags&unfinished == 0 {
		cost += recordSize
		q.messages -= c.ends()
		if c.at.number <= q.begunTo {
			q.fixed -= c.ends()
		}
	}
	switch {
	case r.flags&lent != 0:
		if q.loan(c.at.number).done {
			q.release(n)
		}
		q.returned(c.at.number)
		q.release(recordSize)
	case r.flags&control != 0:
		q.control -= n
		q.release(cost)
	default:
		q.bytes -= n
		q.giveBack(cost)
	}
}

// giveBack takes n bytes off what messages cost.
func (q *Queue) giveBack(n int64) {
	q.room -= n
	q.release(n)
}

// release gives n bytes back to the budget, when the queue is tidied up.
func (q *Queue) release(n int64) {
	q.reserved -= n
	q.owed += n
}

// Clear drops every message that waits but the rest of what has begun, and
// returns their number. Control frames stay. Behind what is dropped, or is the end of
// its message, nothing has begun because it says so: parts of a large message do from
// the first on.
func (q *Queue) Clear() (messages int) {
	before, keep, goesOn := q.messages, true, true
	q.withdraw()
	q.rewind()
	for c := q.oldest(); c != nil; c = q.oldest() {
		r := &c.at.record
		stays := r.flags&control != 0
		keep = keep && r.gap == 0 && (stays || goesOn && r.flags&begun != 0 || c.at.number <= q.begunTo)
		if r.gap > 0 {
			r.gap = 0
			c.rewrite()
		}
		if !stays && !keep {
			q.drop(c)
		}
		if !stays {
			goesOn = r.flags&unfinished != 0 || r.flags&(begun|own) == begun && r.arg == 0
		}
		c.step()
	}
	q.gap = 0
	q.tidy()
	return before - q.messages
}

// Mark names the place behind everything that has come, for Retract.
func (q *Queue) Mark() uint64 { return q.number }

// Retract takes back what came behind mark, parts of one message that was cut short,
// and counts no message for it. False: some of it is beyond recall, and all of it
// stays.
func (q *Queue) Retract(mark uint64) bool {
	if q.begunTo > mark {
		return false
	}
	q.withdraw()
	q.rewind()
	for c := q.oldest(); c != nil; c = q.oldest() {
		if c.at.number > mark {
			q.gap += c.at.gap
			q.drop(c)
		}
		c.step()
	}
	q.tidy()
	return true
}

// Close gives every reservation back and every loan up. The queue is empty
// afterwards.
func (q *Queue) Close() {
	for _, c := range q.chains {
		for _, b := range c.blocks {
			b.free()
		}
	}
	for _, l := range q.loans {
		l.buf, l.done = nil, true
	}
	q.budget.Release(q.reserved)
	*q = Queue{limit: q.limit, budget: q.budget, notice: q.notice, tally: q.tally, number: q.number}
}
