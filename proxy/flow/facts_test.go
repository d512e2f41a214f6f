package flow

import (
	"fmt"
	"strings"
	"testing"

	"weir/proxy/mem"
)

// given fills a queue from words, in order: a critical message is a plain word,
// "~x" is droppable, "~~x" droppable of priority 1, "x=y" is state y of name x,
// "!x" a control frame.
func given(t *testing.T, limit int64, budget *Budget, words string) *Queue {
	t.Helper()
	q := newQueue(limit, budget)
	t.Cleanup(q.Close)
	q.SetNotice(renderGap)
	for w := range strings.FieldsSeq(words) {
		push(q, w)
	}
	return q
}

func push(q *Queue, w string) bool {
	m := Message{Wire: []byte(strings.TrimLeft(w, "~!"))}
	m.Control = strings.HasPrefix(w, "!")
	m.Droppable = strings.HasPrefix(w, "~")
	if strings.HasPrefix(w, "~~") {
		m.Priority = 1
	}
	if name, _, ok := strings.Cut(w, "="); ok {
		m.Droppable, m.Conflate = true, name
	}
	return q.Push(m)
}

// drained is everything that is delivered from now on.
func drained(q *Queue) string {
	var got strings.Builder
	for next := q.Next(nil); next != nil; next = q.Next(nil) {
		got.Write(next)
		q.Wrote(len(next), 0)
	}
	return got.String()
}

func TestWhatIsDelivered(t *testing.T) {
	const e, n = recordSize, stateCost + 1
	for _, c := range []struct {
		fact  string
		limit int64
		words string
		want  string
	}{
		{"everything, in order", 1000, "a ~b c", "abc"},
		{"the oldest droppable goes first", 3*e + 3, "~a ~b ~c ~d", "<gap 1>bcd"},
		{"a run of shed messages leaves one notice", 2*e + 2, "~a ~b ~c ~d ~e", "<gap 3>de"},
		{"a message between shed ones ends the run", 2*e + 2, "~a k ~b", "<gap 1>kb"},
		{"what arrives is shed when nothing else can be", e + 1, "k ~b ~c", "k<gap 2>"},
		{"a lower priority goes first, even when it is younger", 2*e + 2, "~~a ~b ~~c", "a<gap 1>c"},
		{"nobody makes room for himself above his priority", e + 1, "~~a ~b", "a<gap 1>"},
		{"a state that is larger than the limit is shed, and told behind the older one", e + 3 + n, "s=1 s=2222222", "s=1<gap 1>"},
		{"a superseded state goes before anything else, without a notice", 3*e + 8 + n, "~a s=1 s=2 ~bbbb", "as=2bbbb"},
		{"without pressure every state is delivered", 10*e + n, "s=1 s=2 s=3", "s=1s=2s=3"},
		{"a state takes the place of the one it supersedes", e + 3 + n, "s=1 s=2 s=3", "s=3"},
		{"a state without a predecessor sheds like others", e + 3 + n, "s=1 r=1", "<gap 1>r=1"},
		{"a critical message sheds droppable ones", 2*e + 4, "~aa ~bb cccc", "<gap 2>cccc"},
		{"control frames are exempt from the limit", e + 1, "a !ping", "aping"},
		{"what can never fit sheds nothing", e + 2, "~a ~" + strings.Repeat("b", 5000), "a<gap 1>"},
	} {
		budget := NewBudget(0, nil)
		q := given(t, c.limit, budget, c.words)
		if got := drained(q); got != c.want {
			t.Errorf("%s: %s delivers %s, want %s", c.fact, c.words, got, c.want)
		}
		if budget.Used() != 0 || q.Bytes() != 0 || q.Messages() != 0 {
			t.Errorf("%s: %d bytes reserved, %d waiting, %d messages", c.fact, budget.Used(), q.Bytes(), q.Messages())
		}
	}
}

// What has begun is delivered whole, whatever is asked meanwhile.
func TestBegunIsNeverRecalled(t *testing.T) {
	for _, c := range []struct {
		fact       string
		n, pending int // of what waits
		then       func(q *Queue)
		want       string
	}{
		{"nothing has begun: all can go", 0, 0, (*Queue).Shed, "<gap 3>"},
		{"half a message is on the wire", 1, 0, (*Queue).Shed, "a<gap 2>"},
		{"a message is on the wire, the next has not begun", 2, 0, (*Queue).Shed, "<gap 2>"},
		{"a message and a half", 3, 0, (*Queue).Shed, "b<gap 1>"},
		{"encrypted counts as begun", 0, 3, (*Queue).Shed, "aabb<gap 1>"},
		{"clear leaves the rest of the message under way", 3, 0, func(q *Queue) { q.Clear() }, "b"},
		{"clear leaves what is encrypted", 1, 2, func(q *Queue) { q.Clear() }, "abb"},
		{"clear leaves nothing when nothing has begun", 2, 0, func(q *Queue) { q.Clear() }, ""},
	} {
		for _, words := range []string{"~aa ~bb ~cc", "aa bb cc"} {
			if words[0] != '~' && !strings.Contains(c.fact, "clear") {
				continue
			}
			budget := NewBudget(0, nil)
			q := given(t, 1<<20, budget, words)
			q.Next(nil)
			q.Wrote(c.n, c.pending)
			c.then(q)
			if got := drained(q); got != c.want || budget.Used() != 0 {
				t.Errorf("%s: %s delivers %q, want %q; %d reserved", c.fact, words, got, c.want, budget.Used())
			}
		}
	}
}

func TestClearKeepsControlFrames(t *testing.T) {
	q := given(t, 1<<20, nil, "aa !close")
	if n := q.Clear(); n != 1 || drained(q) != "close" {
		t.Errorf("cleared %d messages, want 1, and the close frame stays", n)
	}
}

// A notice that nobody has seen yet counts what is shed beside it.
func TestNoticeCountsUntilItIsOnTheWire(t *testing.T) {
	q := given(t, 1<<20, nil, "~a")
	q.Shed()
	if got := string(q.Next(nil)); got != "<gap 1>" {
		t.Fatal(got)
	}
	q.Wrote(0, 0) // the kernel took nothing
	q.Drop()
	if got := string(q.Next(nil)); got != "<gap 2>" {
		t.Fatal(got)
	}
	q.Wrote(1, 0)
	q.Drop()
	if got := drained(q); got != "gap 2><gap 1>" {
		t.Error(got)
	}
}

// What is taken aside is used, here and above, but not queued, and no ceiling
// holds it.
func TestTakenAside(t *testing.T) {
	process := NewBudget(100, nil)
	route := NewBudget(50, process)
	facts := func(what string, used, queued int64, fits bool) {
		t.Helper()
		for _, b := range []*Budget{route, process} {
			if b.Used() != used || b.Queued() != queued {
				t.Errorf("%s: %d are used and %d queued, want %d and %d", what, b.Used(), b.Queued(), used, queued)
			}
		}
		if route.Fits(10) != fits {
			t.Errorf("%s: 10 more fit: %v", what, !fits)
		}
	}
	route.Reserve(20)
	route.TakeAside(200)
	facts("with 200 aside", 220, 20, false)
	route.TakeAside(-190)
	facts("with 10 aside", 30, 20, true)
	route.TakeAside(-10)
	facts("with none", 20, 20, true)
}

// Who finds no room is told the ceiling that he met, and nothing is taken.
func TestTakeTellsTheCeiling(t *testing.T) {
	process := NewBudget(100, nil)
	route := NewBudget(50, process)
	process.Reserve(60)
	for _, f := range []struct{ n, limit, used int64 }{{51, 50, 51}, {50, 100, 110}, {40, 0, 0}, {1, 100, 101}} {
		if limit, used := route.Take(f.n); limit != f.limit || used != f.used {
			t.Errorf("%d bytes: %d would be used of %d, want %d of %d", f.n, used, limit, f.used, f.limit)
		}
	}
	if route.Used() != 40 || process.Used() != 100 {
		t.Errorf("%d and %d are used, want 40 and 100", route.Used(), process.Used())
	}
}

func TestBudgetHoldsAcrossQueues(t *testing.T) {
	process := NewBudget(2*recordSize+10, nil)
	route := NewBudget(0, process)
	a := given(t, 1<<20, route, "aaaa")
	b := given(t, 1<<20, route, "~bbbb")
	if push(a, strings.Repeat("a", 20)) {
		t.Error("a message above the process' budget was queued")
	}
	if route.Fits(20) {
		t.Error("what the process has no room for fits a route without a ceiling")
	}
	if max, mark, used := route.Full(); used != 2*recordSize+8 || mark >= used || max != process.Max() {
		t.Errorf("full with %d reserved, above %d of %d, want %d of %d", used, mark, max, 2*recordSize+8, process.Max())
	}
	b.Shed()
	if !push(a, strings.Repeat("a", 4)) {
		t.Error("what was shed elsewhere makes no room here")
	}
	b.Close()
	a.Close()
	if process.Used() != 0 || route.Used() != 0 {
		t.Errorf("%d and %d reserved at the end", process.Used(), route.Used())
	}
}

// Who waits for memory is not passed by what comes and may be shed.
func TestWantedMemoryIsNotTaken(t *testing.T) {
	process := NewBudget(10*(recordSize+4), nil)
	route := NewBudget(0, process)
	q := given(t, 1<<20, route, "~aaaa ~bbbb kkkk ~cccc ~dddd ~eeee ~ffff ~gggg ~hhhh ~iiii")
	if route.Reserve(40) {
		t.Fatal("the budget is not full")
	}
	over := route.Want(40)
	if push(q, "~jjjj"); route.Used() > process.Max()-40 {
		t.Errorf("%d reserved of %d, and somebody waits for 40", route.Used(), process.Max())
	}
	if push(q, "~jjjj"); !route.Reserve(40) {
		t.Error("what was wanted is taken")
	}
	over()
	if !push(q, "~kkkk") {
		t.Error("nobody waits any more, and a message finds no place")
	}
	route.Release(40)
}

// What was wanted of two ceilings is wanted of neither when the wait is over.
func TestAWaitForMemoryLeavesNothing(t *testing.T) {
	process := NewBudget(100, nil)
	route := NewBudget(100, process)
	route.Reserve(60)
	route.Want(50)()
	if process.Short() || !NewBudget(0, process).ReserveSpare(40) {
		t.Error("nobody waits any more, and 40 bytes that are free may not be taken")
	}
}

// Who waits for memory of his route keeps nobody from that of the process.
func TestWhatIsWantedOfARouteIsThere(t *testing.T) {
	process := NewBudget(1000, nil)
	full, other := NewBudget(100, process), NewBudget(0, process)
	full.Reserve(100)
	for range 20 {
		defer full.Want(50)()
	}
	if other.Short() || !other.ReserveSpare(100) {
		t.Error("800 bytes are free and nothing may take them")
	}
	if !full.Short() || full.ReserveSpare(1) {
		t.Error("what is wanted may be taken")
	}
}

// To ask for room takes none, and sheds what stands in the way alone.
func TestFits(t *testing.T) {
	budget := NewBudget(1<<20, nil)
	q := given(t, 3*(recordSize+4), budget, "aaaa ~bbbb ~cccc")
	for _, f := range []struct {
		size   int64
		fits   bool
		waits  int
		budget int64
	}{
		{4, true, 2, 2 * (recordSize + 4)},
		{recordSize + 8, true, 1, recordSize + 4},
		{recordSize + 9, false, 1, recordSize + 4},
	} {
		if q.Fits(f.size) != f.fits || q.Messages() != f.waits || budget.Used() != f.budget {
			t.Errorf("%d bytes: %d messages wait, %d reserved, want %+v", f.size, q.Messages(), budget.Used(), f)
		}
	}
}

func TestLoansAreWrittenInTheirTurn(t *testing.T) {
	budget := NewBudget(0, nil)
	q := given(t, recordSize+4, budget, "aaaa")
	mine := []byte("lent")
	l := q.Lend(Message{Wire: mine})
	push(q, "!ping")
	if q.Bytes() != 4 || q.Messages() != 2 {
		t.Errorf("%d bytes and %d messages wait, want 4 and 2: a loan is a message and not the queue's memory", q.Bytes(), q.Messages())
	}
	q.Wrote(len(q.Next(nil)), 0)
	q.Next(nil)
	q.Wrote(2, 0)
	if l.Returned() {
		t.Fatal("returned before it was written")
	}
	q.Recall(l)
	copy(mine, "zzzz")
	if got := drained(q); got != "ntping" || budget.Used() != 0 {
		t.Errorf("delivered %q, want %q; %d reserved", got, "ntping", budget.Used())
	}
}

// Small messages share memory, and leave in one write.
func TestSmallMessagesAreGathered(t *testing.T) {
	q := given(t, 1<<20, nil, "")
	for i := range 100 {
		push(q, fmt.Sprintf("~%02d", i))
		push(q, fmt.Sprintf("%02d", i))
	}
	if got := len(q.Next(make([]byte, 256))); got != 256 {
		t.Errorf("one write of %d bytes, want 256", got)
	}
	// Those of one kind lie together and are not even copied.
	q = given(t, 1<<20, nil, "")
	for range 1000 {
		push(q, "~"+strings.Repeat("x", 98))
	}
	for q.Next(nil); q.Bytes() > 50_000; {
		q.Wrote(len(q.Next(nil)), 0)
	}
	if got := len(q.Next(nil)); got < 10_000 {
		t.Errorf("one write of %d bytes without copying, want most of a block", got)
	}
}

// What a full queue takes is its limit and little more, whatever waits in it.
func TestMemoryOfAFullQueue(t *testing.T) {
	const limit = 1 << 20
	for _, c := range []struct {
		fact string
		most int // bytes
		m    func(i int) Message
	}{
		{"critical and droppable messages by turns", limit + 4*maxBlock, func(i int) Message {
			return Message{Wire: make([]byte, 130), Droppable: i%2 == 0}
		}},
		{"sizes of all kinds", limit + 4*maxBlock, func(i int) Message {
			return Message{Wire: make([]byte, 1+i*i%3000), Droppable: i%3 == 0, Priority: uint8(i % 2)}
		}},
		{"tiny messages", limit + 4*maxBlock, func(i int) Message {
			return Message{Wire: make([]byte, 2), Droppable: i%2 == 0}
		}},
		{"messages of several blocks", limit + 4*maxBlock, func(i int) Message {
			return Message{Wire: make([]byte, 40_000), Droppable: i%2 == 0}
		}},
		{"states, of which few are superseded", limit + limit/4 + 2*maxBlock, func(i int) Message {
			return Message{Wire: make([]byte, 130), Droppable: true, Conflate: fmt.Sprint(i * i % 9973)}
		}},
	} {
		budget := NewBudget(0, nil)
		q := given(t, limit, budget, "")
		most := 0
		for i, offered := 0, int64(0); offered < 5*limit/2; i++ {
			m := c.m(i)
			offered += m.Cost()
			q.Push(m)
			most = max(most, q.held)
		}
		if most > c.most || q.held < limit/4 {
			t.Errorf("%s: up to %d bytes of blocks, %d at the end; allowed %d", c.fact, most, q.held, c.most)
		}
		if used := budget.Used(); used > limit || used < limit*3/4 {
			t.Errorf("%s: %d reserved of %d", c.fact, used, limit)
		}
		q.Close()
		if budget.Used() != 0 || mem.InUse() != 0 {
			t.Errorf("%s: closed, and %d bytes are reserved, %d blocks are out", c.fact, budget.Used(), mem.InUse())
		}
	}
}

// One small message that waits does not take a block.
func TestLittleWaitsInLittle(t *testing.T) {
	q := given(t, 1<<20, nil, "hello ~world")
	if q.held > 2*minBlock {
		t.Errorf("two words take %d bytes", q.held)
	}
}

func TestGapsOfBillions(t *testing.T) {
	q := given(t, 1<<20, nil, "")
	q.Drop()
	q.gap = 1 << 33
	push(q, "a")
	if got := drained(q); got != "<gap 8589934592>a" {
		t.Error(got)
	}
}

func TestPushAndDrainAllocateLittle(t *testing.T) {
	wire := make([]byte, 130)
	for _, m := range []Message{{Wire: wire}, {Wire: wire, Droppable: true}} {
		q := newQueue(1<<20, NewBudget(0, nil))
		n := testing.AllocsPerRun(100, func() {
			for range 100 {
				q.Push(m)
			}
			for next := q.Next(nil); next != nil; next = q.Next(nil) {
				q.Wrote(len(next), 0)
			}
		})
		if n > 20 {
			t.Errorf("%v allocations for 100 messages, want 20 at most (droppable: %v)", n, m.Droppable)
		}
	}
}

func BenchmarkPushAndDrain(b *testing.B) {
	wire := make([]byte, 130)
	for _, c := range []struct {
		name string
		m    Message
	}{
		{"critical", Message{Wire: wire}},
		{"droppable", Message{Wire: wire, Droppable: true}},
		{"state", Message{Wire: wire, Droppable: true, Conflate: "a"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			q := newQueue(1<<20, NewBudget(0, NewBudget(1<<30, nil)))
			for i := 0; b.Loop(); i++ {
				q.Push(c.m)
				if i%1000 == 999 {
					for next := q.Next(nil); next != nil; next = q.Next(nil) {
						q.Wrote(len(next), 0)
					}
				}
			}
			q.Close()
		})
	}
}

// A full queue that sheds for every message: what a peer that stopped reading
// costs.
func BenchmarkShed(b *testing.B) {
	b.ReportAllocs()
	q := newQueue(1<<20, NewBudget(0, NewBudget(1<<30, nil)))
	q.SetNotice(renderGap)
	m := Message{Wire: make([]byte, 130), Droppable: true}
	for b.Loop() {
		q.Push(m)
	}
	q.Close()
}

// What a peer that stopped reading costs until its queue is full of what has to
// stay, for each message that arrives.
func BenchmarkFill(b *testing.B) {
	b.ReportAllocs()
	var q *Queue
	m := Message{Wire: make([]byte, 130)}
	for i := 0; b.Loop(); i++ {
		if q == nil {
			q = newQueue(1<<20, NewBudget(0, NewBudget(1<<30, nil)))
			q.SetNotice(renderGap)
		}
		m.Droppable = i%2 == 0
		if !q.Push(m) && !m.Droppable {
			q.Close()
			q = nil
		}
	}
	if q != nil {
		q.Close()
	}
}

// A large message of which nothing is on the wire is cleared, though each of its parts
// says that it has begun.
func TestClearDropsLargeMessagesThatWait(t *testing.T) {
	budget := NewBudget(0, nil)
	var q Queue
	q.Init(1<<20, budget)
	for _, part := range []Message{{Wire: []byte("aa")}, {Wire: []byte("AA"), Ends: 1}, {Wire: []byte("bb")}, {Wire: []byte("BB"), Ends: 1}} {
		part.Begun = true
		q.Push(part)
	}
	q.Next(nil)
	q.Wrote(1, 0)
	if n, rest := q.Clear(), drained(&q); n != 1 || rest != "aAA" || budget.Used() != 0 {
		t.Errorf("%d messages are dropped, %q stays, %d bytes are reserved", n, rest, budget.Used())
	}
}

// Behind the rest of an envelope or of a ping no message has begun, though each part
// of a large one says so.
func TestClearDropsLargeMessagesBehindAnEnvelope(t *testing.T) {
	var q Queue
	q.Init(1<<20, nil)
	for _, m := range []Message{{Wire: []byte("ee"), Own: true}, {Wire: []byte("aa")}, {Wire: []byte("AA"), Ends: 1}} {
		m.Begun = true
		q.Push(m)
	}
	if n, rest := q.Clear(), drained(&q); n != 1 || rest != "ee" {
		t.Errorf("%d messages are dropped, %q stays", n, rest)
	}
}
