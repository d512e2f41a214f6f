package flow

// An entry stands in the FIFO and, while it can be given up, in the list it is
// given up from. Both are intrusive: an entry is one allocation.
const (
	inFIFO = iota
	inClass
)

type link struct{ prev, next *entry }

// list is a doubly linked list of entries through one of their two links.
type list struct {
	which      int
	head, tail *entry
}

func (l *list) empty() bool { return l.head == nil }

func (l *list) pushBack(e *entry) { l.insertAfter(e, l.tail) }

// insertAfter puts e behind at; a nil at means the front.
func (l *list) insertAfter(e, at *entry) {
	le := &e.links[l.which]
	le.prev = at
	if at == nil {
		le.next, l.head = l.head, e
	} else {
		la := &at.links[l.which]
		le.next, la.next = la.next, e
	}
	if le.next == nil {
		l.tail = e
	} else {
		le.next.links[l.which].prev = e
	}
}

func (l *list) remove(e *entry) {
	le := &e.links[l.which]
	if le.prev == nil {
		l.head = le.next
	} else {
		le.prev.links[l.which].next = le.next
	}
	if le.next == nil {
		l.tail = le.prev
	} else {
		le.next.links[l.which].prev = le.prev
	}
	*le = link{}
}
