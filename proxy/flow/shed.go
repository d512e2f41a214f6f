package flow

import (
	"cmp"
	"slices"
)

// makeRoom reserves cost in the budget and sees to it that n more bytes fit.
// In this order is given up: states that a newer one has superseded, then
// droppable messages by priority and age. What arrives makes no room for
// itself among what has a higher priority.
func (q *Queue) makeRoom(n, cost int64, arriving Message) bool {
	if n > q.limit {
		return false
	}
	for q.bytes+n > q.limit || !q.budget.Reserve(cost) {
		switch {
		case q.giveUp(&q.superseded):
			q.lost.Conflated++
		case arriving.Conflate != "" && q.newest[arriving.Conflate] != nil:
			q.discard(q.newest[arriving.Conflate])
			q.lost.Conflated++
		case len(q.classes) == 0, arriving.Droppable && q.classes[0].priority > arriving.Priority:
			return false
		default:
			q.shedOldest()
		}
	}
	return true
}

// Shed gives up every droppable message that has not begun: what a full memory
// budget asks of every queue.
func (q *Queue) Shed() {
	for len(q.classes) > 0 {
		q.shedOldest()
	}
}

// shedOldest gives up the oldest message of the lowest priority and leaves a
// notice in its place.
func (q *Queue) shedOldest() {
	e := q.classes[0].head
	before := e.links[inFIFO].prev
	q.discard(e)
	q.lost.Shed++
	q.mark(before)
}

func (q *Queue) giveUp(l *list) bool {
	if l.empty() {
		return false
	}
	q.discard(l.head)
	return true
}

// mark notes one shed message behind at: on the notice that stands there or
// next to there, else by a new one. Notices that meet become one.
func (q *Queue) mark(at *entry) {
	if q.notice == nil {
		return
	}
	next := q.fifo.head
	if at != nil {
		next = at.links[inFIFO].next
	}
	switch {
	case waitingNotice(at) && waitingNotice(next):
		at.gap += next.gap + 1
		q.discard(next)
	case waitingNotice(at):
		at.gap++
	case waitingNotice(next):
		next.gap++
	default:
		q.budget.force(entryCost)
		q.fifo.insertAfter(&entry{kind: notice, gap: 1}, at)
	}
}

func waitingNotice(e *entry) bool { return e != nil && e.kind == notice && !e.pinned }

// classify puts a droppable entry where makeRoom finds it.
func (q *Queue) classify(e *entry, priority uint8) {
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
	i, found := slices.BinarySearchFunc(q.classes, priority, func(c *class, p uint8) int { return cmp.Compare(c.priority, p) })
	if !found {
		q.classes = slices.Insert(q.classes, i, &class{priority: priority, list: list{which: inClass}})
	}
	e.given = &q.classes[i].list
	e.given.pushBack(e)
}

// keep takes e out of every list that it could be given up from.
func (q *Queue) keep(e *entry) {
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
