// Package flow holds what waits toward a slow peer: a queue bounded to the
// byte that knows what it may shed, and the memory budget all queues share. It
// does no I/O, starts no goroutine and reads no clock.
package flow

// Message is one whole message as it goes on the wire.
type Message struct {
	Wire []byte // every frame of it; Push copies it
	// Droppable messages are shed when room is needed, the lowest Priority
	// first, then the oldest.
	Droppable bool
	Priority  uint8
	// Conflate, when not empty, names what a droppable message is the state of:
	// under pressure only the newest of a name is kept.
	Conflate string
	// Control marks a control frame: exempt from the limit, never shed.
	Control bool
}

// Lost counts messages that a queue gave up to make room.
type Lost struct{ Shed, Conflated int64 }

// Queue is a bounded FIFO of messages on their way to one peer. It is not safe
// for concurrent use.
//
// Invariant: Bytes() never exceeds the limit; what is reserved in the budget is
// the cost of every entry that stands in the FIFO.
type Queue struct {
	limit  int64 // wire bytes of messages, frame headers included
	budget *Budget
	notice func(dst []byte, count int64) []byte

	fifo     list
	bytes    int64 // wire bytes of messages; control frames and notices are exempt
	control  int64 // wire bytes of control frames
	messages int
	lost     Lost

	classes    []*class // by ascending priority; none is empty
	newest     map[string]*entry
	superseded list
}

// class is the droppable messages of one priority, oldest first.
type class struct {
	list
	priority uint8
}

// entry is one element of the FIFO.
type entry struct {
	links    [2]link
	buf      []byte
	ends     []uint32 // run: where each message ends in buf
	off      uint32   // bytes of buf on the wire
	done     uint32   // messages of ends on the wire
	gap      int64    // notice: how many messages it stands for
	conflate string
	given    *list // where it can be given up from; nil: it can not
	kind     kind
	pinned   bool // partly on the wire, or encrypted: recalled no more
}

type kind uint8

const (
	run       kind = iota // critical messages, back to back
	droppable             // one message
	control               // one control frame
	notice                // stands where messages were shed; rendered when its turn comes
)

const (
	runSize   = 32 << 10 // where a run ends and the next entry begins
	entryCost = 160      // memory of an entry beside its bytes, for the budget
)

// NewQueue returns a queue that holds at most limit wire bytes of messages,
// which are also reserved in budget. gap appends the wire form of the notice
// that stands for count shed messages. budget and gap may be nil.
func NewQueue(limit int64, budget *Budget, gap func(dst []byte, count int64) []byte) *Queue {
	q := &Queue{limit: limit, budget: budget, notice: gap}
	q.fifo.which, q.superseded.which = inFIFO, inClass
	return q
}

// Bytes returns the wire bytes of the messages that wait.
func (q *Queue) Bytes() int64 { return q.bytes }

// ControlBytes returns the wire bytes of the control frames that wait.
func (q *Queue) ControlBytes() int64 { return q.control }

// Messages returns how many messages wait, wholly or in part.
func (q *Queue) Messages() int { return q.messages }

// Empty reports whether nothing waits.
func (q *Queue) Empty() bool { return q.fifo.empty() }

// Lost returns what was given up since the last call.
func (q *Queue) Lost() Lost {
	l := q.lost
	q.lost = Lost{}
	return l
}

// SetLimit changes the limit for what comes; nothing that waits is given up.
func (q *Queue) SetLimit(limit int64) { q.limit = limit }

// Push queues m, making room from what may be given up. False means that m
// does not fit: a droppable one has then been shed and counted, a critical one
// is still the caller's.
func (q *Queue) Push(m Message) bool {
	n := int64(len(m.Wire))
	if m.Control {
		q.control += n
		q.budget.force(n + entryCost)
		q.fifo.pushBack(&entry{kind: control, buf: append([]byte(nil), m.Wire...)})
		return true
	}
	if back := q.fifo.tail; !m.Droppable && back != nil && back.kind == run && len(back.buf)+len(m.Wire) <= runSize {
		if !q.makeRoom(n, n, m) {
			return false
		}
		// Making room takes no run away, but back may not be the tail any more
		// when a notice was put behind it.
		if q.fifo.tail == back {
			back.buf = append(back.buf, m.Wire...)
			back.ends = append(back.ends, uint32(len(back.buf)))
			q.bytes, q.messages = q.bytes+n, q.messages+1
			return true
		}
		q.budget.force(entryCost)
		q.pushRun(m.Wire)
		return true
	}
	if !q.makeRoom(n, n+entryCost, m) {
		if m.Droppable {
			q.Drop()
		}
		return false
	}
	if !m.Droppable {
		q.pushRun(m.Wire)
		return true
	}
	e := &entry{kind: droppable, buf: append([]byte(nil), m.Wire...), conflate: m.Conflate}
	q.fifo.pushBack(e)
	q.bytes, q.messages = q.bytes+n, q.messages+1
	q.classify(e, m.Priority)
	return true
}

// PushRest queues bytes of a message whose beginning is on the wire; it is
// recalled no more. last says that the message ends with them. False means
// that they do not fit.
func (q *Queue) PushRest(wire []byte, last bool) bool {
	n := int64(len(wire))
	if !q.makeRoom(n, n+entryCost, Message{}) {
		return false
	}
	e := &entry{kind: run, buf: append([]byte(nil), wire...), pinned: true}
	if last {
		e.ends = []uint32{uint32(len(wire))}
		q.messages++
	}
	q.fifo.pushBack(e)
	q.bytes += n
	return true
}

// Drop counts an arriving droppable message as shed without having seen it
// whole, and leaves a notice.
func (q *Queue) Drop() {
	q.lost.Shed++
	q.mark(q.fifo.tail)
}

func (q *Queue) pushRun(wire []byte) {
	q.fifo.pushBack(&entry{kind: run, buf: append([]byte(nil), wire...), ends: []uint32{uint32(len(wire))}})
	q.bytes += int64(len(wire))
	q.messages++
}

// Next returns bytes to write, from the head; nil when nothing waits. The
// slice is valid until the next call that changes the queue.
func (q *Queue) Next() []byte {
	e := q.fifo.head
	if e == nil {
		return nil
	}
	if e.kind == notice && e.buf == nil {
		e.pinned = true
		e.buf = q.notice(nil, e.gap)
		if len(e.buf) == 0 {
			q.discard(e)
			return q.Next()
		}
	}
	return e.buf[e.off:]
}

// Wrote takes the first n bytes away: they are on the wire. pending bytes
// behind them are encrypted already and can be recalled no more; n+pending is
// at most len(Next()).
func (q *Queue) Wrote(n, pending int) {
	e := q.fifo.head
	if e == nil {
		return
	}
	e.off += uint32(n)
	q.uncount(e, int64(n))
	for int(e.done) < len(e.ends) && e.off >= e.ends[e.done] {
		e.done++
		q.messages--
	}
	switch {
	case int(e.off) == len(e.buf):
		if e.kind == droppable {
			q.messages--
		}
		q.remove(e)
	case n > 0 || pending > 0:
		e.pinned = true
		q.keep(e)
	}
}

// Clear drops everything that waits but the rest of what has begun, and
// returns the number of messages dropped.
func (q *Queue) Clear() (messages int) {
	before := q.messages
	for e := q.fifo.head; e != nil; {
		next := e.links[inFIFO].next
		if e.pinned {
			q.cut(e)
		} else {
			q.discard(e)
		}
		e = next
	}
	return before - q.messages
}

// Close gives every reservation back. The queue is empty afterwards.
func (q *Queue) Close() {
	for q.fifo.head != nil {
		q.discard(q.fifo.head)
	}
}

// cut leaves of a run that has begun only what can not be recalled: the
// message under way. With encryption ahead of the wire that is a record, which
// may hold several messages, so a run is cut only once bytes of it are out.
func (q *Queue) cut(e *entry) {
	if e.kind != run || int(e.done) == len(e.ends) {
		return
	}
	end := max(e.ends[e.done], min(e.off+maxPending, uint32(len(e.buf))))
	last := int(e.done)
	for e.ends[last] < end {
		last++
	}
	q.uncount(e, int64(uint32(len(e.buf))-e.ends[last]))
	q.messages -= len(e.ends) - last - 1
	e.buf, e.ends = e.buf[:e.ends[last]], e.ends[:last+1]
}

// maxPending is the most that a transport encrypts ahead: one TLS record.
const maxPending = 16 << 10

// uncount takes n bytes of e off the totals. A notice was never in them.
func (q *Queue) uncount(e *entry, n int64) {
	switch e.kind {
	case notice:
		return
	case control:
		q.control -= n
	default:
		q.bytes -= n
	}
	q.budget.Release(n)
}

// discard takes an entry out with what is left of it.
func (q *Queue) discard(e *entry) {
	q.uncount(e, int64(len(e.buf)-int(e.off)))
	switch e.kind {
	case droppable:
		q.messages--
	case run:
		q.messages -= len(e.ends) - int(e.done)
	}
	q.remove(e)
}

// remove takes e out of the FIFO; its bytes are accounted for.
func (q *Queue) remove(e *entry) {
	q.keep(e)
	q.fifo.remove(e)
	q.budget.Release(entryCost)
}
