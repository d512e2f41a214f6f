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
	came  int // messages and control frames
	begun int // that one and those before have begun

	sealed int64 // bytes of paid ones that are encrypted
}

// item is one message, control frame or notice.
type item struct {
	number     int // 0: a notice
	wire       []byte
	off, fixed int
	kind       kind
	lent       bool
	recalled   bool
	ends       int  // messages that end with it
	rests      bool // it was pushed as begun
	touched    bool // some of it is on the wire, or encrypted
	priority   uint8
	conflate   string
	superseded bool
	renamed    bool // nothing that comes supersedes it
	gap        int64
}

type kind uint8

const (
	critical kind = iota
	droppable
	envelope
	ping
	notice
)

func kindOf(m *Message) kind {
	switch {
	case m.Own:
		return envelope
	case m.Begun:
		return critical
	case m.Droppable:
		return droppable
	case m.Control:
		return ping
	}
	return critical
}

func (i *item) begun() bool { return i.off > 0 || i.fixed > 0 }
func (i *item) paid() bool  { return !i.lent && i.kind != ping && i.kind != notice }

// named reports whether i is the newest state of its name.
func (i *item) named() bool { return i.conflate != "" && !i.begun() && !i.superseded }

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

func (m *model) room() (n int64) {
	for _, i := range m.items {
		if i.paid() {
			n += int64(len(i.rest())) + recordSize
			if i.named() {
				n += nameCost(i.conflate)
			}
		}
	}
	return n
}

func (m *model) messages() (n int) {
	for _, i := range m.items {
		n += i.ends
	}
	return n
}

// waiting is messages with those that have begun as one.
func (m *model) waiting() (n int) {
	begun := 0
	for _, i := range m.items {
		if i.number > 0 && i.number <= m.begun {
			begun += i.ends
		} else {
			n += i.ends
		}
	}
	return n + min(begun, 1)
}

// reserved is what the budget must show.
func (m *model) reserved() int64 {
	n := m.room()
	for _, i := range m.items {
		switch {
		case i.lent:
			n += recordSize
			if i.recalled {
				n += int64(len(i.rest()))
			}
		case i.kind == ping:
			n += recordSize + int64(len(i.rest()))
		}
	}
	return n
}

func (m *model) stream() []byte {
	var b []byte
	for _, i := range m.items {
		b = append(b, i.rest()...)
	}
	return b
}

func (m *model) push(msg Message) bool {
	i := &item{wire: slices.Clone(msg.Wire), kind: kindOf(&msg), ends: msg.count(), rests: msg.Begun, priority: msg.Priority, conflate: msg.Conflate}
	if msg.Begun {
		i.fixed = len(i.wire)
	}
	if i.kind != ping && !m.fit(i, &msg) {
		if msg.Droppable {
			m.tally.Shed++
			m.gap(len(m.items))
		}
		return false
	}
	if old := m.newest(msg.Conflate); old != nil {
		old.superseded = true
	}
	m.append(i)
	return true
}

func (m *model) append(i *item) {
	m.came++
	i.number = m.came
	m.items = append(m.items, i)
}

func (m *model) lend(msg Message) *item {
	msg.Droppable = false
	i := &item{wire: msg.Wire, kind: kindOf(&msg), ends: msg.count(), rests: msg.Begun, lent: true}
	if msg.Begun {
		i.fixed = len(i.wire)
	}
	m.append(i)
	return i
}

func (m *model) newest(name string) *item {
	for _, i := range slices.Backward(m.items) {
		if name != "" && i.conflate == name && i.named() && !i.renamed {
			return i
		}
	}
	return nil
}

func (m *model) fit(i *item, arriving *Message) bool {
	cost := int64(len(i.wire)) + recordSize
	if cost+nameCost(i.conflate) > m.limit {
		return false
	}
	for {
		cost := cost
		if m.newest(i.conflate) == nil {
			cost += nameCost(i.conflate)
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

func (m *model) rename() {
	for _, i := range m.items {
		i.renamed = true
	}
}

// dropSuperseded drops the oldest state that a newer one has superseded.
func (m *model) dropSuperseded() bool {
	oldest := slices.IndexFunc(m.items, func(i *item) bool { return i.superseded && !i.begun() })
	if oldest >= 0 {
		m.remove(oldest)
		m.tally.Conflated++
	}
	return oldest >= 0
}

func (m *model) victim() int {
	best := -1
	for n, i := range m.items {
		if i.kind == droppable && !i.begun() && !i.superseded && (best < 0 || i.priority < m.items[best].priority) {
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
		m.items = slices.Insert(m.items, at, &item{kind: notice, gap: 1})
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
	m.sealed = 0
	for n > 0 {
		i := m.items[0]
		took := min(n, len(i.rest()))
		n -= took
		m.begun = max(m.begun, i.number)
		if i.kind != notice && i.kind != envelope {
			m.tally.WrittenBytes += int64(took)
		}
		if took < len(i.rest()) {
			i.off += took
			i.touched = i.touched || took > 0
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
		i.touched = true
		m.begun = max(m.begun, i.number)
		if i.paid() {
			m.sealed += int64(ahead)
		}
		pending -= ahead
	}
}

func (m *model) clear() (dropped int) {
	begun, goesOn := true, true // from the head on; what was pushed as a rest is one of what was kept
	m.items = slices.DeleteFunc(m.items, func(i *item) bool {
		if i.kind == ping {
			return false
		}
		begun = begun && i.begun() && (goesOn || i.touched)
		if i.kind != notice {
			goesOn = i.rests && i.ends == 0 && i.kind != envelope
		}
		if !begun {
			dropped += i.ends
		}
		return !begun
	})
	return dropped
}

func (m *model) retract(mark int) bool {
	if m.begun > mark {
		return false
	}
	m.items = slices.DeleteFunc(m.items, func(i *item) bool { return i.number > mark })
	m.mend()
	return true
}

func (m *model) shedAll() {
	for m.dropSuperseded() {
	}
	for m.victim() >= 0 {
		m.shed(m.victim())
	}
}
