package flow

import (
	"fmt"
	"slices"
)

// model is a Queue as one would first think of it: one item per message, looked
// through from the front for everything.
type model struct {
	limit int64
	items []*item
	told  bool // gaps are told
	tally Tally

	states int // superseded so far
}

// item is one message, control frame or notice.
type item struct {
	wire       []byte
	off, fixed int
	kind       kind
	lent       bool
	ends       int // messages that end with it
	priority   uint8
	conflate   string
	superseded int // which one, counted
	gap        int64
	run        *run // which entry it would stand in
}

// run is what several items share one entryCost for.
type run struct {
	size int // bytes that were ever in it
}

func (i *item) begun() bool { return i.off > 0 || i.fixed > 0 }
func (i *item) paid() bool  { return !i.lent && i.kind != control && i.kind != notice }

func (i *item) rest() []byte {
	if i.kind == notice {
		return renderGap(nil, i.gap)[i.off:]
	}
	return i.wire[i.off:]
}

func renderGap(dst []byte, n int64) []byte { return fmt.Appendf(dst, "<gap %d>", n) }

func (m *model) bytes() (n int64) {
	for _, i := range m.items {
		if i.paid() {
			n += int64(len(i.rest()))
		}
	}
	return n
}

func (m *model) room() int64 {
	runs := map[*run]bool{}
	for _, i := range m.items {
		if i.paid() {
			runs[i.run] = true
		}
	}
	return m.bytes() + int64(len(runs))*entryCost
}

func (m *model) messages() (n int) {
	for _, i := range m.items {
		n += i.ends
	}
	return n
}

// reserved is what the budget must show.
func (m *model) reserved() (n int64) {
	runs := map[*run]bool{}
	for _, i := range m.items {
		runs[i.run] = true
		if i.kind != notice && !i.lent {
			n += int64(len(i.rest()))
		}
	}
	return n + int64(len(runs))*entryCost
}

func (m *model) stream() []byte {
	var b []byte
	for _, i := range m.items {
		b = append(b, i.rest()...)
	}
	return b
}

func (m *model) push(msg Message) bool {
	i := &item{wire: slices.Clone(msg.Wire), ends: msg.count(), priority: msg.Priority, conflate: msg.Conflate}
	if msg.Begun {
		i.fixed = len(i.wire)
	} else {
		i.kind = newEntry(&msg, nil).kind
	}
	if i.kind != control && !m.fit(i, &msg) {
		if msg.Droppable {
			m.tally.Shed++
			m.gap(len(m.items))
		}
		return false
	}
	if old := m.newest(msg.Conflate); old != nil {
		m.states++
		old.superseded = m.states
	}
	m.place(i)
	return true
}

// place appends i, into the run at the end when it goes there.
func (m *model) place(i *item) {
	if n := len(m.items); n > 0 && m.joins(m.items[n-1], i) {
		i.run = m.items[n-1].run
		i.run.size += len(i.wire)
	}
	if i.run == nil {
		i.run = &run{size: len(i.wire)}
	}
	m.items = append(m.items, i)
}

func (m *model) joins(last, i *item) bool {
	if (i.kind != critical && i.kind != droppable) || last.kind != i.kind || last.priority != i.priority && i.kind == droppable ||
		i.kind == droppable && i.conflate+last.conflate != "" || i.lent || last.lent || i.begun() {
		return false
	}
	begun := slices.ContainsFunc(m.items, func(o *item) bool { return o.run == last.run && o.begun() })
	return !begun && last.run.size+len(i.wire) <= runSize
}

func (m *model) lend(msg Message) *item {
	i := &item{wire: msg.Wire, ends: msg.count(), lent: true}
	msg.Droppable = false
	if msg.Begun {
		i.fixed = len(i.wire)
	} else {
		i.kind = newEntry(&msg, nil).kind
	}
	m.place(i)
	return i
}

func (m *model) newest(name string) *item {
	for _, i := range slices.Backward(m.items) {
		if name != "" && i.conflate == name && !i.begun() && i.superseded == 0 {
			return i
		}
	}
	return nil
}

func (m *model) fit(i *item, arriving *Message) bool {
	for {
		cost := int64(len(i.wire))
		if n := len(m.items); n == 0 || !m.joins(m.items[n-1], i) {
			cost += entryCost
		}
		if cost > m.limit {
			return false
		}
		if m.room()+cost <= m.limit {
			return true
		}
		if m.dropSuperseded() {
			continue
		}
		if old := m.newest(arriving.Conflate); old != nil {
			m.remove(slices.Index(m.items, old))
			m.tally.Conflated++
			continue
		}
		victim := m.victim()
		if victim < 0 || arriving.Droppable && m.items[victim].priority > arriving.Priority {
			return false
		}
		m.shed(victim)
	}
}

// dropSuperseded drops the one that was superseded first, if there is one.
func (m *model) dropSuperseded() bool {
	best := -1
	for n, i := range m.items {
		if i.superseded > 0 && !i.begun() && (best < 0 || i.superseded < m.items[best].superseded) {
			best = n
		}
	}
	if best >= 0 {
		m.remove(best)
		m.tally.Conflated++
	}
	return best >= 0
}

func (m *model) victim() int {
	best := -1
	for n, i := range m.items {
		if i.kind == droppable && !i.begun() && i.superseded == 0 && (best < 0 || i.priority < m.items[best].priority) {
			best = n
		}
	}
	return best
}

func (m *model) shed(at int) {
	m.remove(at)
	m.tally.Shed++
	m.gap(at)
}

func (m *model) remove(at int) {
	m.items = slices.Delete(m.items, at, at+1)
	m.mend()
}

// gap notes one shed message before item at.
func (m *model) gap(at int) {
	if m.told {
		m.items = slices.Insert(m.items, at, &item{kind: notice, gap: 1, run: &run{}})
		m.mend()
	}
}

// mend makes one notice of those that stand together.
func (m *model) mend() {
	for n := 0; n+1 < len(m.items); {
		a, b := m.items[n], m.items[n+1]
		if a.kind == notice && b.kind == notice && !a.begun() && !b.begun() {
			a.gap += b.gap
			m.items = slices.Delete(m.items, n+1, n+2)
			continue
		}
		n++
	}
}

func (m *model) wrote(n, pending int) {
	for n > 0 {
		i := m.items[0]
		took := min(n, len(i.rest()))
		n -= took
		if i.kind != notice && i.kind != own {
			m.tally.WrittenBytes += int64(took)
		}
		if took < len(i.rest()) {
			i.off += took
			break
		}
		m.tally.Written += int64(i.ends)
		m.items = m.items[1:]
	}
	for _, i := range m.items {
		if pending == 0 {
			break
		}
		ahead := min(pending, len(i.rest()))
		i.fixed = max(i.fixed, i.off+ahead)
		pending -= ahead
	}
	m.split()
}

// split gives begun droppable messages a run apart from those that have not.
func (m *model) split() {
	apart := map[*run]*run{}
	for _, i := range m.items {
		if i.kind != droppable || !i.begun() {
			continue
		}
		i.kind = critical
		if apart[i.run] == nil {
			apart[i.run] = i.run
			if slices.ContainsFunc(m.items, func(o *item) bool { return o.run == i.run && !o.begun() }) {
				apart[i.run] = &run{size: i.run.size}
			}
		}
		i.run = apart[i.run]
	}
}

func (m *model) clear() (dropped int) {
	begun := true // from the head on
	m.items = slices.DeleteFunc(m.items, func(i *item) bool {
		if i.kind == control {
			return false
		}
		begun = begun && i.begun()
		if !begun {
			dropped += i.ends
		}
		return !begun
	})
	return dropped
}

func (m *model) shedAll() {
	for m.dropSuperseded() {
	}
	for m.victim() >= 0 {
		m.shed(m.victim())
	}
}
