package poll

import "time"

// longSlice is how long handlers with long turns go on before the loop looks
// for others that are ready meanwhile.
const longSlice = 500 * time.Microsecond

// longFor is how many turns after a long one come after others: who sends much
// has short turns between, and they do not announce that the next is short too.
const longFor = 8

// queue is a FIFO of sources that are readable and whose turns are long.
type queue struct {
	sources []*Source
	first   int
}

func (q *queue) empty() bool { return q.first == len(q.sources) }

func (q *queue) push(s *Source) {
	if q.first > 0 && len(q.sources) == cap(q.sources) {
		n := copy(q.sources, q.sources[q.first:])
		clear(q.sources[n:])
		q.sources, q.first = q.sources[:n], 0
	}
	q.sources = append(q.sources, s)
}

func (q *queue) pop() *Source {
	s := q.sources[q.first]
	q.sources[q.first] = nil
	q.first++
	if q.empty() {
		q.sources, q.first = q.sources[:0], 0
	}
	return s
}

// later queues a source.
func (l *loop) later(s *Source) {
	if !s.queued {
		s.queued = true
		l.long.push(s)
	}
}

// Again has Ready called as after a turn that said so. A source that is not to be read
// when its time comes is not called.
func (s *Source) Again() { s.Call(func(func()) { s.loop.later(s) }) }

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
	for n := len(l.long.sources) - l.long.first; n > 0; n-- {
		s := l.long.pop()
		s.queued = false
		if !s.Wants(Readable) {
			continue
		}
		w.late = event{source: s, what: Readable}
		if w.deliver(leave, &w.late) {
			return true
		}
		if time.Since(began) > longSlice {
			break
		}
	}
	return false
}
