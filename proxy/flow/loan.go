package flow

import "slices"

// Loan is memory that a queue writes from and does not own.
type Loan struct {
	buf    []byte // what is left of it
	number uint64
	done   bool
}

// Returned reports whether the queue needs the memory no more.
func (l *Loan) Returned() bool { return l.done }

// Lend queues m without copying it and whatever the limit: its memory stays
// the caller's, who waits until it is Returned or takes it back with Recall.
func (q *Queue) Lend(m Message) *Loan {
	r := record{arg: uint32(m.count()), flags: lent}
	switch {
	case m.Own:
		r.flags |= own
	case m.Control && !m.Begun:
		r.flags |= control
	}
	if m.Begun {
		r.flags |= begun
	}
	q.reserved += recordSize
	q.budget.force(recordSize)
	l := &Loan{buf: m.Wire, number: q.number + 1}
	q.loans = append(q.loans, l)
	q.append(q.chain(neverShed), nil, r, "")
	return l
}

// Recall gives the memory back at once: what is left of it is copied, whatever
// the limit, and takes as much of the budget.
func (q *Queue) Recall(l *Loan) {
	if !l.done {
		l.done = true
		q.reserved += int64(len(l.buf))
		q.budget.force(int64(len(l.buf)))
		l.buf = slices.Clone(l.buf)
	}
}

// loan returns the one of a message.
func (q *Queue) loan(number uint64) *Loan {
	return q.loans[slices.IndexFunc(q.loans, func(l *Loan) bool { return l.number == number })]
}

// returned gives the loan of a message back.
func (q *Queue) returned(number uint64) {
	i := slices.IndexFunc(q.loans, func(l *Loan) bool { return l.number == number })
	q.loans[i].buf, q.loans[i].done = nil, true
	q.loans = slices.Delete(q.loans, i, i+1)
	if len(q.loans) == 0 {
		q.loans = nil
	}
}
