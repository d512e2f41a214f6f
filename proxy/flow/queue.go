// Package flow holds what waits toward a slow peer: a queue bounded to the
// byte that knows what it may shed, and the memory budget all queues share. It
// does no I/O, starts no goroutine and reads no clock.
package flow

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
// Invariant: Bytes, and the memory that their entries take, never exceed the
// limit; what is reserved in the budget is that, and the same of control frames
// and notices.
type Queue struct {
	limit  int64 // bytes of memory for messages
	budget *Budget
	notice func(dst []byte, count int64) []byte // nil: gaps are not told

	fifo     list
	bytes    int64 // wire bytes of messages; control frames, notices and loans are exempt
	room     int64 // bytes, and entryCost for each entry that holds them
	control  int64 // wire bytes of control frames
	messages int
	tally    Tally

	classes    []*class // by ascending priority; none is empty
	newest     map[string]*entry
	superseded list
}

// NewQueue returns a queue that holds at most limit bytes of messages, which
// are also reserved in budget. budget may be nil.
func NewQueue(limit int64, budget *Budget) *Queue {
	q := &Queue{}
	q.Init(limit, budget)
	return q
}

// Init makes a zero Queue what NewQueue returns.
func (q *Queue) Init(limit int64, budget *Budget) {
	q.limit, q.budget = limit, budget
	q.fifo.which, q.superseded.which = inFIFO, inClass
}

// SetLimit changes the limit for what comes; nothing that waits is given up.
func (q *Queue) SetLimit(limit int64) { q.limit = limit }

// SetNotice has notice append the wire form of what tells the peer that count
// messages were shed in this place; nil: nobody is told. It may append nothing.
func (q *Queue) SetNotice(notice func(dst []byte, count int64) []byte) { q.notice = notice }

// Bytes returns the wire bytes of the messages that wait in the queue's own
// memory.
func (q *Queue) Bytes() int64 { return q.bytes }

// ControlBytes returns the wire bytes of the control frames that wait.
func (q *Queue) ControlBytes() int64 { return q.control }

// Messages returns how many messages wait, wholly or in part, loans included.
func (q *Queue) Messages() int { return q.messages }

// Empty reports whether nothing waits.
func (q *Queue) Empty() bool { return q.fifo.empty() }

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
	n := int64(len(m.Wire))
	if m.Control && !m.Begun {
		q.control += n
		q.budget.force(n + entryCost)
		q.fifo.pushBack(&entry{kind: control, buf: append([]byte(nil), m.Wire...)})
		return true
	}
	if !q.makeRoom(&m) {
		if m.Droppable {
			q.Drop()
		}
		return false
	}
	q.bytes += n
	q.messages += m.count()
	if tail := q.fifo.tail; tail.joins(&m) {
		tail.join(m.Wire)
		return true
	}
	e := newEntry(&m, nil)
	if e.pooled = q.fifo.tail.fullFor(&m); e.pooled {
		e.buf = append(runs.Get().(*[runSize]byte)[:0], m.Wire...)
	} else {
		e.buf = append(make([]byte, 0, n), m.Wire...)
	}
	q.fifo.pushBack(e)
	if e.kind == droppable {
		q.classify(e)
	}
	return true
}

// Lend queues m without copying it and whatever the limit: its memory stays
// the caller's, who waits until it is Returned or takes it back with Recall.
func (q *Queue) Lend(m Message) *Loan {
	m.Droppable = false
	e := newEntry(&m, m.Wire)
	e.loan, e.lent = &Loan{entry: e}, true
	q.budget.force(entryCost)
	q.messages += m.count()
	q.fifo.pushBack(e)
	return e.loan
}

// Loan is memory that a queue writes from and does not own.
type Loan struct{ entry *entry }

// Returned reports whether the queue needs the memory no more.
func (l *Loan) Returned() bool { return l.entry == nil }

// Recall gives the memory back at once: what is left of it is copied, whatever
// the limit.
func (q *Queue) Recall(l *Loan) {
	e := l.entry
	if e == nil {
		return
	}
	if e.begun() {
		e.fixed = len(e.rest())
	}
	e.buf, e.off = append([]byte(nil), e.rest()...), 0
	e.loan, l.entry = nil, nil
}

// Next returns bytes to write, from the head: those of one entry as they lie,
// those of several small ones together in scratch. It is nil when nothing
// waits. The slice is valid until the next call that changes the queue.
func (q *Queue) Next(scratch []byte) []byte {
	e := q.render(q.fifo.head)
	if e == nil {
		return nil
	}
	n := len(e.rest())
	second := q.render(e.links[inFIFO].next)
	if second == nil || n+len(second.rest()) > len(scratch) {
		return e.rest()
	}
	copy(scratch, e.rest())
	for e = second; e != nil && n+len(e.rest()) <= len(scratch); e = q.render(e.links[inFIFO].next) {
		n += copy(scratch[n:], e.rest())
	}
	return scratch[:n]
}

// render returns e, or when e is a notice that says nothing the entry behind.
func (q *Queue) render(e *entry) *entry {
	for e != nil && e.kind == notice && e.buf == nil {
		if q.notice != nil {
			e.buf = q.notice(nil, e.gap)
		}
		if len(e.buf) > 0 {
			break
		}
		next := e.links[inFIFO].next
		q.discard(e)
		e = next
	}
	return e
}

// Wrote takes the first n bytes away: they are on the wire. pending bytes
// behind them are encrypted already and can be recalled no more.
func (q *Queue) Wrote(n, pending int) {
	for e := q.fifo.head; e != nil && (n > 0 || pending > 0); {
		next := e.links[inFIFO].next
		took := min(n, len(e.rest()))
		n -= took
		q.advance(e, took)
		if len(e.rest()) == 0 && e.buf != nil {
			q.remove(e)
		} else {
			ahead := min(pending, len(e.rest()))
			pending -= ahead
			q.begin(e, ahead)
			if pending == 0 {
				return
			}
		}
		e = next
	}
}

// Clear drops every message that waits but the rest of what has begun, and
// returns their number. Control frames stay. Behind what is dropped nothing has
// begun, whatever it says: parts of a large message say so from the first on.
func (q *Queue) Clear() (messages int) {
	before, begun := q.messages, true
	for e := q.fifo.head; e != nil; {
		next := e.links[inFIFO].next
		switch {
		case e.kind == control:
		case begun && e.begun():
			n := q.messages
			q.cut(e)
			begun = q.messages == n
		default:
			q.discard(e)
			begun = false
		}
		e = next
	}
	return before - q.messages
}

// Close gives every reservation back and every loan up. The queue is empty
// afterwards.
func (q *Queue) Close() {
	for q.fifo.head != nil {
		q.discard(q.fifo.head)
	}
}
