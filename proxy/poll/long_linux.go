package poll

import "time"

// longSlice is how long handlers with long turns go on before the loop looks
// for others that are ready meanwhile.
const longSlice = 500 * time.Microsecond

// longFor is how many turns after a long one come after others: who sends much
// has short turns between, and they do not announce that the next is short too.
const longFor = 8

// queue is a FIFO of turns that are likely to be long: of sources that are readable,
// and of tasks that have paused.
type queue struct {
	turns []late
	first int
}

// late is one of them.
type late struct {
	source *Source
	call   func(leave func()) // instead of source's Ready
}

func (q *queue) empty() bool { return q.first == len(q.turns) }

func (q *queue) push(t late) {
	if q.first > 0 && len(q.turns) == cap(q.turns) {
		n := copy(q.turns, q.turns[q.first:])
		clear(q.turns[n:])
		q.turns, q.first = q.turns[:n], 0
	}
	q.turns = append(q.turns, t)
}

func (q *queue) pop() late {
	t := q.turns[q.first]
	q.turns[q.first] = late{}
	q.first++
	if q.empty() {
		q.turns, q.first = q.turns[:0], 0
	}
	return t
}

// later queues a source.
func (l *loop) later(s *Source) {
	if !s.queued {
		s.queued = true
		l.long.push(late{source: s})
	}
}

// Again has Ready called as after a turn that said so. A source that is not to be read
// when its time comes is not called.
func (s *Source) Again() { s.Call(func(func()) { s.loop.later(s) }) }

// callLate is Call for what is likely to take long: it has its turn among the long ones.
func (s *Source) callLate(f func(leave func())) {
	s.Call(func(func()) { s.loop.long.push(late{call: f}) })
}

// defers puts reading off when it is likely to be a long turn. It reports
// whether that is all that e is about.
func (l *loop) defers(e *event) bool {
	if e.call != nil || e.what&Readable == 0 || e.source.long == 0 {
		return false
	}
	l.later(e.source)
	e.what &^= Readable
	return e.what == 0
}

// longTurns delivers to those that were put off, each once at most, for a
// while. It returns true when one of them has left the loop.
func (w *worker) longTurns(leave func()) (left bool) {
	l := w.loop
	if l.long.empty() {
		return false
	}
	began := time.Now()
	for n := len(l.long.turns) - l.long.first; n > 0; n-- {
		t := l.long.pop()
		if s := t.source; s != nil {
			s.queued = false
			if !s.Wants(Readable) {
				continue
			}
		}
		w.late = event{source: t.source, what: Readable, call: t.call}
		if w.deliver(leave, &w.late) {
			return true
		}
		if time.Since(began) > longSlice {
			break
		}
	}
	return false
}
