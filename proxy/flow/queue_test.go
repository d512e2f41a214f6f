package flow

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"weir/proxy/mem"
)

// script is a queue and its model, driven with the same calls.
type script struct {
	t      testing.TB
	q      *Queue
	m      *model
	budget *Budget
	loans  []lending
	id     int
	steps  int
	log    []string
}

type lending struct {
	loan *Loan
	item *item
}

func newQueue(limit int64, budget *Budget) *Queue {
	q := &Queue{}
	q.Init(limit, budget)
	return q
}

func newScript(t testing.TB, limit int64, told bool) *script {
	s := &script{t: t, budget: NewBudget(0, NewBudget(0, nil)), m: &model{limit: limit, told: told}}
	s.q = newQueue(limit, s.budget)
	if told {
		s.q.SetNotice(renderGap)
	}
	return s
}

// wire returns n bytes that no other message has.
func (s *script) wire(n int) []byte {
	s.id++
	b := fmt.Appendf(nil, "[%d:", s.id)
	for len(b) < n-1 {
		b = append(b, '.')
	}
	return append(b, ']')
}

// step does what two random numbers say and compares.
func (s *script) step(op, arg uint32) {
	size := 8 + int(arg%100)
	if arg%37 == 0 {
		size = int(arg % (2 * maxBlock))
	}
	switch op % 16 {
	case 0, 1, 2:
		s.push(Message{Wire: s.wire(size)})
	case 3, 4, 5:
		s.push(Message{Wire: s.wire(size), Droppable: true, Priority: uint8(arg >> 8 % 3)})
	case 6, 7:
		s.push(Message{Wire: s.wire(size), Droppable: true, Priority: uint8(arg >> 8 % 2), Conflate: fmt.Sprint("name", arg>>10%4)})
	case 8:
		s.push(Message{Wire: s.wire(size % 100), Control: true})
	case 9:
		s.push(Message{Wire: s.wire(size), Own: true})
	case 10:
		s.push(Message{Wire: s.wire(size), Begun: true, Ends: int(arg >> 8 % 3)})
	case 11:
		s.lend(Message{Wire: s.wire(size), Begun: arg>>9%2 == 0, Ends: 1, Control: arg>>10%4 == 0})
	case 12, 13, 14:
		s.write(int(arg%3), int(arg>>4))
	default:
		s.rare(arg)
	}
	s.same()
}

func (s *script) push(m Message) {
	s.log = append(s.log, fmt.Sprintf("push %.12s %d droppable=%v/%d %q control=%v own=%v begun=%v/%d", m.Wire, len(m.Wire), m.Droppable, m.Priority, m.Conflate, m.Control, m.Own, m.Begun, m.Ends))
	if got, want := s.q.Push(m), s.m.push(m); got != want {
		s.fatalf("push: %v, want %v", got, want)
	} else if got && !m.Control && s.q.Bytes() > s.q.limit {
		s.fatalf("%d bytes wait, the limit is %d", s.q.Bytes(), s.q.limit)
	}
}

func (s *script) lend(m Message) {
	s.log = append(s.log, fmt.Sprintf("lend %.12s %d begun=%v", m.Wire, len(m.Wire), m.Begun))
	s.loans = append(s.loans, lending{s.q.Lend(m), s.m.lend(m)})
}

// write takes a part of what is offered, as a socket would, or all of it.
func (s *script) write(how, arg int) {
	scratch := make([]byte, arg%2048)
	next := s.q.Next(scratch)
	whole := s.m.stream()
	if !bytes.HasPrefix(whole, next) || (len(next) == 0) != (len(whole) == 0) {
		s.fatalf("next: %.80q\nwant a prefix of: %.80q", next, whole)
	}
	n, pending := len(next), 0
	if how > 0 && n > 0 {
		n = arg % n
	}
	if how == 2 {
		pending = min(arg%500, len(next)-n)
	}
	s.log = append(s.log, fmt.Sprintf("wrote %d of %d, pending %d", n, len(next), pending))
	s.q.Wrote(n, pending)
	s.m.wrote(n, pending)
}

func (s *script) rare(arg uint32) {
	switch what := arg % 8; what {
	case 0:
		s.log = append(s.log, "drop")
		s.q.Drop()
		s.m.tally.Shed++
		s.m.gap(len(s.m.items))
	case 1:
		s.log = append(s.log, "shed")
		s.q.Shed()
		s.m.shedAll()
	case 2:
		s.log = append(s.log, "clear")
		if got, want := s.q.Clear(), s.m.clear(); got != want {
			s.fatalf("clear: %d messages, want %d", got, want)
		}
	case 3:
		limit := int64(arg >> 4 % 3000)
		s.log = append(s.log, fmt.Sprint("limit ", limit))
		s.q.SetLimit(limit)
		s.m.limit = limit
	case 4, 5:
		if len(s.loans) > 0 {
			i := int(arg>>4) % len(s.loans)
			s.log = append(s.log, "recall")
			s.q.Recall(s.loans[i].loan)
			s.scribble(i)
		}
	case 6:
		s.cutShort(arg)
	case 7:
		s.log = append(s.log, "rename")
		s.q.Rename()
		s.m.rename()
	}
}

// cutShort passes on parts of a message, and takes them back.
func (s *script) cutShort(arg uint32) {
	mark, number := s.q.Mark(), s.m.came
	for range 1 + arg>>3%3 {
		if part := (Message{Wire: s.wire(20 + int(arg>>5%1000)), Begun: true}); arg>>6%2 == 0 {
			s.lend(part)
		} else {
			s.push(part)
		}
	}
	if arg>>7%2 == 0 {
		s.write(2, int(arg>>8))
	}
	s.log = append(s.log, "retract")
	if got, want := s.q.Retract(mark), s.m.retract(number); got != want {
		s.fatalf("retract: %v, want %v", got, want)
	}
}

// scribble uses memory that was lent, as its owner would.
func (s *script) scribble(i int) {
	l := s.loans[i]
	theirs := l.item.wire
	l.item.wire, l.item.recalled = bytes.Clone(theirs), true
	clear(theirs)
	s.loans = append(s.loans[:i], s.loans[i+1:]...)
}

func (s *script) same() {
	q, m := s.q, s.m
	for i := len(s.loans) - 1; i >= 0; i-- {
		if s.loans[i].loan.Returned() {
			s.scribble(i)
		}
	}
	if q.Bytes() != m.bytes() || q.Messages() != m.messages() || q.room != m.room() || q.Empty() != (len(m.items) == 0) {
		s.fatalf("bytes %d, messages %d, room %d, empty %v\nwant  %d,          %d,      %d,       %v",
			q.Bytes(), q.Messages(), q.room, q.Empty(), m.bytes(), m.messages(), m.room(), len(m.items) == 0)
	}
	if n, size := q.Waiting(); n != m.waiting() || size != m.bytes()-m.sealed {
		s.fatalf("waiting %d, %d bytes, want %d, %d", n, size, m.waiting(), m.bytes()-m.sealed)
	}
	if s.budget.Used() != m.reserved() {
		s.fatalf("budget %d, want %d", s.budget.Used(), m.reserved())
	}
	if s.steps++; s.steps%8 == 0 {
		s.memory()
	}
	if got := q.Tally(); got != m.tally {
		s.fatalf("tally %+v, want %+v", got, m.tally)
	}
	m.tally = Tally{}
}

// memory holds what the queue has in blocks to what it says, and to its bound.
func (s *script) memory() {
	held, used, pieces := 0, 0, 0
	old := 0 // superseded states
	for _, c := range s.q.chains {
		live, before := 0, old
		for _, b := range c.blocks {
			held += len(b.mem)
			inBlock := old
			for i := b.first; i < b.n; i++ {
				if r := b.record(i); r.flags&dead == 0 {
					if r.flags&superseded != 0 {
						if old++; b.number(i) < c.stale {
							s.fatalf("message %d is superseded, and none before %d was to be", b.number(i), c.stale)
						}
					}
					if r.flags&unfinished != 0 {
						pieces++
					}
					live += int(r.end) - b.start(i) + recordSize
				}
			}
			if old-inBlock != b.superseded {
				s.fatalf("a block has %d superseded states, counted as %d", old-inBlock, b.superseded)
			}
		}
		if old-before != c.superseded {
			s.fatalf("%d states of rank %d are superseded, counted as %d", old-before, c.rank, c.superseded)
		}
		if used += live; live != c.live {
			s.fatalf("%d bytes alive of rank %d, want %d", c.live, c.rank, live)
		}
	}
	if old != s.q.superseded {
		s.fatalf("%d states are superseded, counted as %d", old, s.q.superseded)
	}
	if most := bound(used, len(s.q.chains)); held != s.q.held || held > most || int64(used-pieces*recordSize) > s.budget.Used() {
		s.fatalf("%d bytes of blocks, counted as %d, for %d alive, %d reserved; at most %d", held, s.q.held, used, s.budget.Used(), most)
	}
}

func (s *script) fatalf(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("after\n%s\n"+format, append([]any{strings.Join(s.log[max(0, len(s.log)-40):], "\n")}, args...)...)
}

func (s *script) close() {
	s.q.Close()
	if s.budget.Used() != 0 || s.budget.parent.Used() != 0 || s.q.Bytes() != 0 || s.q.ControlBytes() != 0 || s.q.Messages() != 0 || s.q.fixed != 0 || s.q.room != 0 ||
		len(s.q.chains) != 0 || s.q.held != 0 {
		s.fatalf("closed, and left over: budget %d, bytes %d, control %d, messages %d, room %d", s.budget.Used(), s.q.Bytes(), s.q.ControlBytes(), s.q.Messages(), s.q.room)
	}
	for _, l := range s.loans {
		if !l.loan.Returned() {
			s.fatalf("closed, and a loan is out")
		}
	}
}

// A queue does what the model does, whatever it is asked.
func TestQueueAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for round := range 200 {
		limit := 500 + r.IntN(6000)
		if round%10 == 0 { // several blocks
			limit = 30_000 + r.IntN(50_000)
		}
		s := newScript(t, int64(limit), round%4 > 0)
		for range 300 {
			s.step(r.Uint32(), r.Uint32())
		}
		s.close()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if n := mem.InUse(); n != 0 {
		t.Errorf("%d blocks are out when every queue is closed", n)
	}
}

func FuzzQueue(f *testing.F) {
	f.Add([]byte("push and shed and write"), int64(2000), true)
	f.Add(bytes.Repeat([]byte{3, 7, 9, 200, 12, 1, 40, 6}, 40), int64(700), false)
	f.Fuzz(func(t *testing.T, ops []byte, limit int64, told bool) {
		s := newScript(t, limit&0xFFFF, told)
		for ; len(ops) >= 4; ops = ops[4:] {
			s.step(uint32(ops[0]), uint32(ops[1])|uint32(ops[2])<<8|uint32(ops[3])<<16)
		}
		s.close()
	})
}
