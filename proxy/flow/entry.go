package flow

import "sync"

// entry is one element of the FIFO. It holds messages that stand back to back
// and are of one kind; what was written or shed of them lies before off.
type entry struct {
	links    [2]link
	buf      []byte
	ends     []uint32 // where each message ends in buf; nil: count of them do at its end
	off      int      // of buf on the wire, or shed
	fixed    int      // of buf on the wire or encrypted, recalled no more; or less than off
	done     int      // messages of ends that lie before off
	count    int
	gap      int64 // notice: how many messages it stands for
	conflate string
	given    *list // where it can be given up from; nil: it can not
	loan     *Loan // nil: buf is the queue's
	kind     kind
	priority uint8
	lent     bool // buf is or was a loan, and in no account
	pooled   bool // buf is of runs, and no other entry's
}

type kind uint8

const (
	critical  kind = iota // messages that stay
	droppable             // messages of one priority, none of which has begun
	own                   // an envelope of Weir's
	control               // one control frame
	notice                // stands where messages were shed; rendered when its turn comes
)

const (
	runSize   = 16 << 10 // bytes of small messages that share an entry
	entryCost = 192      // memory of an entry beside its bytes
)

// runs are the buffers of full entries: toward a peer that is slow for long
// nothing is allocated for each message.
var runs = sync.Pool{New: func() any { return new([runSize]byte) }}

func newEntry(m *Message, buf []byte) *entry {
	e := &entry{buf: buf, count: m.count(), priority: m.Priority, conflate: m.Conflate}
	if m.Begun {
		e.fixed = len(m.Wire)
	}
	switch {
	case m.Own:
		e.kind = own
	case m.Begun:
	case m.Droppable:
		e.kind = droppable
	case m.Control:
		e.kind = control
	}
	return e
}

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

func (e *entry) rest() []byte { return e.buf[e.off:] }

// waiting is how many messages wait in e, wholly or in part.
func (e *entry) waiting() int {
	if e.ends != nil {
		return len(e.ends) - e.done
	}
	return e.count
}

// start is where the first message that waits begins in buf.
func (e *entry) start() int {
	if e.done > 0 {
		return int(e.ends[e.done-1])
	}
	return 0
}

// begun reports whether a part of e's first message can be recalled no more.
func (e *entry) begun() bool { return e.fixed > e.start() }

// joins reports whether m can stand in e, behind what is there.
func (e *entry) joins(m *Message) bool {
	if e == nil || len(e.buf)+len(m.Wire) > runSize || e.lent || e.begun() || m.Begun || m.Own {
		return false
	}
	switch e.kind {
	case critical:
		return !m.Droppable
	case droppable:
		return m.Droppable && m.Priority == e.priority && m.Conflate == "" && e.conflate == ""
	}
	return false
}

// fullFor reports whether m would join e if there were room: more of its kind
// will come.
func (e *entry) fullFor(m *Message) bool {
	return e != nil && e.pooled && len(m.Wire) < runSize/2 && !m.Begun && !m.Own && m.Conflate == "" && m.Droppable == (e.kind == droppable)
}

// join appends a message to e.
func (e *entry) join(wire []byte) {
	if e.ends == nil {
		e.ends = append(make([]uint32, 0, 8), uint32(len(e.buf)))
	}
	if need := len(e.buf) + len(wire); need > cap(e.buf) {
		var grown []byte
		if e.pooled = max(2*cap(e.buf), need) > runSize/2; e.pooled {
			grown = runs.Get().(*[runSize]byte)[:0]
		} else {
			grown = make([]byte, 0, max(2*cap(e.buf), need))
		}
		e.buf = append(grown, e.buf...)
	}
	e.buf = append(e.buf, wire...)
	e.ends = append(e.ends, uint32(len(e.buf)))
}

// lastFixed is the message of ends that holds the last byte beyond recall.
func (e *entry) lastFixed() int {
	i := e.done
	for int(e.ends[i]) < e.fixed {
		i++
	}
	return i
}

// advance takes n bytes off the front of e: they are on the wire.
func (q *Queue) advance(e *entry, n int) {
	e.off += n
	q.uncount(e, n)
	if e.kind != notice && e.kind != own {
		q.tally.WrittenBytes += int64(n)
	}
	before := e.waiting()
	switch {
	case e.ends != nil:
		for e.done < len(e.ends) && int(e.ends[e.done]) <= e.off {
			e.done++
		}
	case e.off == len(e.buf):
		e.count = 0
	}
	written := before - e.waiting()
	q.messages -= written
	q.tally.Written += int64(written)
}

// begin notes that the message at e's front has begun, and that ahead bytes are
// encrypted. Of droppable messages those that have begun get an entry of their
// own.
func (q *Queue) begin(e *entry, ahead int) {
	if e.off == e.start() && ahead == 0 {
		return
	}
	e.fixed = max(e.fixed, e.off+ahead)
	if e.kind != droppable {
		return
	}
	if e.ends == nil || e.lastFixed() == len(e.ends)-1 {
		q.settle(e)
		e.kind = critical
		return
	}
	last := e.lastFixed()
	end := int(e.ends[last])
	front := &entry{buf: e.buf[:end:end], ends: e.ends[: last+1 : last+1], off: e.off, fixed: e.fixed, done: e.done}
	e.pooled = false // both have it now
	q.fifo.insertAfter(front, e.links[inFIFO].prev)
	q.room += entryCost
	q.budget.force(entryCost)
	e.off, e.done, e.fixed = end, last+1, 0
}

// cut drops the messages of e that have not begun.
func (q *Queue) cut(e *entry) {
	if e.ends == nil {
		return
	}
	last := e.lastFixed()
	end := int(e.ends[last])
	q.uncount(e, len(e.buf)-end)
	q.messages -= len(e.ends) - last - 1
	e.buf, e.ends = e.buf[:end], e.ends[:last+1]
}

// uncount takes n bytes of e off the totals.
func (q *Queue) uncount(e *entry, n int) {
	switch {
	case e.kind == notice, e.lent:
		return
	case e.kind == control:
		q.control -= int64(n)
	default:
		q.bytes -= int64(n)
		q.room -= int64(n)
	}
	q.budget.Release(int64(n))
}

// discard takes e out with what is left of it. Notices that meet become one.
func (q *Queue) discard(e *entry) {
	q.uncount(e, len(e.rest()))
	q.messages -= e.waiting()
	before := e.links[inFIFO].prev
	q.remove(e)
	q.mend(before)
}

// remove takes e out of the FIFO; its bytes are accounted for.
func (q *Queue) remove(e *entry) {
	q.settle(e)
	q.fifo.remove(e)
	q.budget.Release(entryCost)
	if e.loan != nil {
		e.loan.entry = nil
	}
	if e.pooled {
		runs.Put((*[runSize]byte)(e.buf[:runSize]))
		e.buf = nil
	}
	if e.kind != notice && e.kind != control && !e.lent {
		q.room -= entryCost
	}
}
