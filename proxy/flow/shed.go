package flow

import (
	"cmp"
	"slices"
)

// class is the droppable messages of one priority, oldest first.
type class struct {
	list
	priority uint8
}

// makeRoom takes what m costs of the limit and of the budget. In this order is
// given up: states that a newer one has superseded, then the state that m
// supersedes, then droppable messages by priority and age. A droppable m makes
// no room for itself among what has a higher priority.
func (q *Queue) makeRoom(m *Message) bool {
	for {
		cost := int64(len(m.Wire))
		if !q.fifo.tail.joins(m) { // not for good: what is given up may be the tail
			cost += entryCost
		}
		switch {
		case cost > q.limit:
			return false
		case q.room+cost <= q.limit && q.budget.Reserve(cost):
			q.room += cost
			return true
		case !q.superseded.empty():
			q.discard(q.superseded.head)
			q.tally.Conflated++
		case m.Conflate != "" && q.newest[m.Conflate] != nil:
			q.discard(q.newest[m.Conflate])
			q.tally.Conflated++
		case len(q.classes) == 0, m.Droppable && q.classes[0].priority > m.Priority:
			return false
		default:
			q.shedOldest()
		}
	}
}

// Drop counts an arriving droppable message as shed without having seen it
// whole, and leaves a notice.
func (q *Queue) Drop() {
	q.tally.Shed++
	q.mark(q.fifo.tail)
}

// Shed gives up every droppable message that has not begun: what a full memory
// budget asks of every queue.
func (q *Queue) Shed() {
	for !q.superseded.empty() {
		q.discard(q.superseded.head)
		q.tally.Conflated++
	}
	for len(q.classes) > 0 {
		q.shedOldest()
	}
}

// shedOldest gives up the oldest message of the lowest priority and leaves a
// notice in its place.
func (q *Queue) shedOldest() {
	e := q.classes[0].head
	before := e.links[inFIFO].prev
	if e.waiting() > 1 {
		end := int(e.ends[e.done])
		q.uncount(e, end-e.off)
		q.messages--
		e.off = end
		e.done++
	} else {
		q.discard(e)
	}
	q.tally.Shed++
	q.mark(before)
}

// mark notes one shed message behind at: on the notice that stands there or
// next to there, else by a new one.
func (q *Queue) mark(at *entry) {
	if q.notice == nil {
		return
	}
	next := q.after(at)
	switch {
	case waitingNotice(at):
		at.gap++
		at.buf = nil
		q.mend(at)
	case waitingNotice(next):
		next.gap++
		next.buf = nil
	default:
		q.budget.force(entryCost)
		q.fifo.insertAfter(&entry{kind: notice, gap: 1}, at)
	}
}

// mend makes the notices at and behind at one, if that is what stands there.
func (q *Queue) mend(at *entry) {
	if next := q.after(at); waitingNotice(at) && waitingNotice(next) {
		at.gap += next.gap
		at.buf = nil
		q.remove(next)
	}
}

// after returns the entry behind at, the head for nil.
func (q *Queue) after(at *entry) *entry {
	if at == nil {
		return q.fifo.head
	}
	return at.links[inFIFO].next
}

func waitingNotice(e *entry) bool { return e != nil && e.kind == notice && !e.begun() }

// classify puts a droppable entry where makeRoom finds it.
func (q *Queue) classify(e *entry) {
	if e.conflate != "" {
		if q.newest == nil {
			q.newest = map[string]*entry{}
		}
		if old := q.newest[e.conflate]; old != nil {
			q.ungive(old)
			old.given = &q.superseded
			q.superseded.pushBack(old)
		}
		q.newest[e.conflate] = e
	}
	i, found := slices.BinarySearchFunc(q.classes, e.priority, func(c *class, p uint8) int { return cmp.Compare(c.priority, p) })
	if !found {
		q.classes = slices.Insert(q.classes, i, &class{priority: e.priority, list: list{which: inClass}})
	}
	e.given = &q.classes[i].list
	e.given.pushBack(e)
}

// settle takes e out of every list that it could be given up from.
func (q *Queue) settle(e *entry) {
	q.ungive(e)
	if e.conflate != "" && q.newest[e.conflate] == e {
		delete(q.newest, e.conflate)
	}
}

// ungive takes e out of its class, and an empty class away.
func (q *Queue) ungive(e *entry) {
	if e.given == nil {
		return
	}
	e.given.remove(e)
	if e.given != &q.superseded && e.given.empty() {
		q.classes = slices.DeleteFunc(q.classes, func(c *class) bool { return &c.list == e.given })
	}
	e.given = nil
}
