package relay

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"weir/hostabi"
	"weir/proxy/flow"
	"weir/proxy/metrics"
	"weir/proxy/policy"
	"weir/proxy/wsframe"
)

// sink is what goes out on one leg. Messages come from the pump of the other
// leg, envelopes and pings from anywhere; all are whole frames at frame
// boundaries.
//
// A write is tried at once. What the kernel does not take is queued and a
// writer goroutine runs until the queue is empty again. What does not fit the
// queue is lent to it: its owner waits until it is written, reading nothing
// meanwhile, and that is the backpressure.
type sink struct {
	t   *Tunnel
	leg *leg
	dir hostabi.Direction // of the messages that go out here

	mu   sync.Mutex
	wake sync.Cond // a loan is returned, the writer is gone, or the sink stopped

	set     *Settings
	queue   flow.Queue
	stalled int       // pumps that wait: for what they lent, or for room
	full    time.Time // when the first of them began to

	inMessage bool     // a large message is being passed through: nothing comes between
	mark      uint64   // what waits of it is behind this
	parted    bool     // a part of it went out at once
	torn      bool     // one could not be passed on: nothing of it may follow
	deferred  [][]byte // envelopes that wait for its end
	waiting   int      // bytes of them
	farewell  func()   // a close frame that does, behind them

	writing bool // a writer goroutine runs
	stopped bool // the tunnel is ending: only finish sends
	closing bool // a close frame was sent or queued: nothing follows
	severed bool // of the message that goes out nothing more may: its sender was told so
	over    bool // finished: no writer starts any more
	err     error

	moved  time.Time // last time the kernel or, as far as was looked, the peer took bytes while writing
	acked  uint64    // by the peer, when that was looked at last
	unsent bool      // the kernel waited for room at the peer then
	grace  *time.Timer

	bytes, queued atomic.Int64 // wire bytes and messages in the queue, for /connections
	room          atomic.Int64 // bytes that the queue takes still; MaxInt64 when nothing waits
}

const (
	// controlCeiling bounds queued control frames, which no limit counts: beyond
	// it their sender waits like everybody else. In bytes.
	controlCeiling = 16 << 10
	// deferredCeiling bounds envelopes that wait for a large message to pass:
	// beyond it whoever is refused is not read until it has. In bytes.
	deferredCeiling = 64 << 10
)

func (s *sink) init(t *Tunnel, from hostabi.Direction, set *Settings) {
	s.t, s.leg, s.dir = t, &t.legs[from], from^1
	s.wake.L = &s.mu
	s.queue.Init(set.Limits.MaxBufferedBytes, t.o.Route.Memory)
	s.use(set)
}

// configure takes over settings that a reload changed.
func (s *sink) configure(set *Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.use(set)
}

func (s *sink) use(set *Settings) {
	if s.set != nil && s.set.View != set.View {
		s.queue.Rename() // keys and fields are other ones
	}
	s.set = set
	s.queue.SetLimit(set.Limits.MaxBufferedBytes)
	s.measure()
	if env := s.gapEnvelope(); env == nil || env.Recipient == hostabi.ToNobody {
		s.queue.SetNotice(nil)
	} else {
		s.queue.SetNotice(s.gapNotice)
	}
}

// send passes a run of whole messages on, in order. It returns when all are
// written, queued, shed or refused, or nobody is left to send them to.
func (s *sink) send(p *pump, wire []byte, ms []message) {
	p.loop.writes++
	s.mu.Lock()
	defer s.mu.Unlock()
	first := 0
	if s.idle() {
		n, err := s.leg.tr.TryWrite(wire)
		if err == nil && n == len(wire) {
			p.count(ms, n)
			s.closing = ms[len(ms)-1].closing
			return
		}
		ms = p.each(wire, ms)
		if err == nil {
			first = s.cut(p, wire, ms, n)
		} else {
			first = taken(p, ms, n)
			s.fail(err)
		}
	} else {
		ms = p.each(wire, ms)
	}
	if first == len(ms) {
		return
	}
	start := startOf(ms, first)
	for i := first; i < len(ms); i++ {
		s.pass(p, wire[start:ms[i].end], &ms[i])
		start = ms[i].end
	}
	s.settle()
}

func startOf(ms []message, i int) int {
	if i == 0 {
		return 0
	}
	return ms[i-1].end
}

// taken counts the messages of a run of which the kernel took n bytes, and returns how
// many it has whole.
func taken(p *pump, ms []message, n int) (done int) {
	for done < len(ms) && ms[done].end <= n {
		done++
	}
	p.count(ms[:done], n)
	return done
}

// cut is for a run of which the kernel took n bytes: it sees to the rest of the
// message that they end in, and returns how many messages are done with.
func (s *sink) cut(p *pump, wire []byte, ms []message, n int) (done int) {
	done = taken(p, ms, n)
	start := startOf(ms, done)
	fixed := n + s.leg.tr.Pending() // what is beyond recall: on the wire, or encrypted
	if fixed == start {
		return done
	}
	rest := flow.Message{Begun: true}
	for ; done < len(ms) && start < fixed; done++ {
		start = ms[done].end
		rest.Wire = wire[n:start]
		if !ms[done].control {
			rest.Ends++
		}
		s.closing = ms[done].closing
	}
	s.put(p, rest)
	s.queue.Wrote(0, s.leg.tr.Pending())
	return done
}

// pass queues one message that could not be written at once, by its rule.
func (s *sink) pass(p *pump, wire []byte, m *message) {
	if s.gone() || s.closing {
		if !m.control {
			p.lose(1)
		}
		return
	}
	fm := flow.Message{Wire: wire, Control: m.control}
	switch {
	case m.control:
		s.closing = m.closing
		if s.queue.ControlBytes()+int64(len(wire)) > controlCeiling {
			s.lend(p, fm)
			return
		}
	default:
		if m.rule.Class == hostabi.Droppable {
			prefix := p.quotable(wire)
			if fm.Droppable = recallable(m.rule, prefix); fm.Droppable {
				fm.Priority, fm.Conflate = m.rule.Priority, p.conflateName(m.rule, prefix)
				p.giveBack() // to the queue, which takes its own, or sheds it
			}
		}
		if br := s.overInbox(&fm, int64(len(wire))); br.code != "" {
			if fm.Droppable {
				s.queue.Drop()
				return
			}
			s.refuse(p, br, wire)
			return
		}
	}
	s.put(p, fm)
}

// put queues m, or waits with it when it does not fit and may not be shed.
func (s *sink) put(p *pump, m flow.Message) {
	if s.queue.Push(m) {
		s.write()
		return
	}
	if memory := s.t.o.Route.Memory; !memory.Fits(m.Cost()) {
		s.t.o.Pressure()
	}
	if m.Droppable {
		s.write() // the notice, where nothing else waits
		return
	}
	s.lend(p, m)
}

// overInbox returns the ceiling on what waits toward the upstream that m, of n bytes,
// would break, also when all is given up for it that may be.
func (s *sink) overInbox(m *flow.Message, n int64) breach {
	for s.dir == hostabi.ToUpstream {
		br := s.aboveInbox(n)
		if br.code == "" || br.code == hostabi.PendingLimit && n > br.limit || !s.queue.Yield(m) {
			return br
		}
	}
	return breach{}
}

// aboveInbox is overInbox as things are.
func (s *sink) aboveInbox(n int64) breach {
	l := &s.set.Limits
	waiting, bytes := s.queue.Waiting()
	if waiting >= l.MaxInbox {
		return breach{code: hostabi.InboxFull, limit: int64(l.MaxInbox), actual: int64(waiting)}
	}
	if total := bytes + n; total > l.MaxPendingBytes && waiting > 0 && l.MaxPendingBytes < l.MaxBufferedBytes {
		return breach{code: hostabi.PendingLimit, ceiling: "max_pending_bytes", limit: l.MaxPendingBytes, actual: total}
	}
	return breach{}
}

// refuse answers one message of a run that the queue has no place for. The
// lock is let go meanwhile: the answer may go out on the other leg.
func (s *sink) refuse(p *pump, br breach, wire []byte) {
	s.mu.Unlock()
	defer s.mu.Lock()
	p.refuseWhole(br, p.quotable(wire))
}

// inject sends an envelope about a message of p's that is refused: to its sender, or
// to its receiver in its place. When it does not fit p waits: a peer that reads no
// answers is not read.
func (s *sink) inject(p *pump, wire []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.gone() || s.closing:
		return
	case s.inMessage:
		s.waiting += len(wire)
		s.t.o.Route.Memory.TakeAside(int64(len(wire)))
		s.deferred = append(s.deferred, wire)
		if s.waiting > deferredCeiling {
			p.leaveLoop()
			p.in.paused.Store(true)
			for s.waiting > deferredCeiling && !s.gone() {
				s.wake.Wait()
			}
			p.in.lastRead.Store(s.t.since(time.Now()))
			p.in.paused.Store(false)
		}
		return
	}
	if m, done := s.try(flow.Message{Wire: wire, Own: true}); !done {
		s.put(p, m)
		s.settle()
	}
}

// ping sends a ping of Weir's own, behind what waits. False: not now.
func (s *sink) ping(payload []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone() || s.closing || s.inMessage {
		return false
	}
	s.control(wsframe.AppendFrame(nil, wsframe.Ping, newMask(s.dir), payload))
	return true
}

// control sends a control frame of Weir's own, which nobody waits for.
func (s *sink) control(wire []byte) {
	if m, done := s.try(flow.Message{Wire: wire, Control: true}); !done {
		s.queue.Lend(m)
		s.write()
	}
}

// try writes a frame of Weir's own at once, if nothing waits. What comes back
// is left to be queued.
func (s *sink) try(m flow.Message) (rest flow.Message, done bool) {
	if s.writing || !s.queue.Empty() {
		return m, false
	}
	n, err := s.leg.tr.TryWrite(m.Wire)
	if err != nil {
		s.fail(err)
		return m, true
	}
	if n > 0 || s.leg.tr.Pending() > 0 {
		m.Wire, m.Begun, m.Own = m.Wire[n:], true, true
	}
	return m, len(m.Wire) == 0
}

// congested reports whether what is sent now would have to wait.
func (s *sink) congested() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.idle()
}

// closed reports whether a close frame was sent or queued: what comes goes nowhere.
func (s *sink) closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// refuses names the ceiling that a large message of n bytes would break.
func (s *sink) refuses(n int64) breach {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle() {
		return breach{}
	}
	defer s.settle()
	return s.overInbox(&flow.Message{}, n)
}

// spare takes n bytes of the memory budget for a large droppable message on its way
// here, for which the queue yields.
func (s *sink) spare(priority uint8, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.settle()
	for !s.t.o.Route.Memory.ReserveSpare(n) {
		if !s.queue.Yield(&flow.Message{Droppable: true, Priority: priority}) {
			return false
		}
	}
	return true
}

// drop counts a large droppable message that is not passed through.
func (s *sink) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone() || s.closing {
		return
	}
	s.queue.Drop()
	s.settle()
	s.write()
}

// shed gives up what can be given up.
func (s *sink) shed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue.Shed()
	s.settle()
}

// idle reports whether nothing waits, so that a write may be tried at once.
func (s *sink) idle() bool {
	return !s.writing && s.queue.Empty() && !s.gone() && !s.closing
}

// gone reports whether nothing more is to be queued here.
func (s *sink) gone() bool { return s.stopped || s.err != nil }

// settle publishes what the queue holds, has written and has given up.
func (s *sink) settle() {
	p, tally := &s.t.pumps[s.dir], s.queue.Tally()
	if tally.Written > 0 || tally.WrittenBytes > 0 {
		p.passed(tally.Written, tally.WrittenBytes)
	}
	if tally.Shed > 0 {
		p.shed.add(tally.Shed)
		s.t.o.Metrics.Dropped(metrics.DroppedShed).Add(float64(tally.Shed))
	}
	if tally.Conflated > 0 {
		p.conflated.add(tally.Conflated)
		s.t.o.Metrics.Dropped(metrics.DroppedConflated).Add(float64(tally.Conflated))
	}
	s.bytes.Store(s.queue.Bytes())
	s.queued.Store(int64(s.queue.Messages()))
	s.measure()
}

// measure publishes how much room there is.
func (s *sink) measure() {
	if s.queue.Empty() {
		s.room.Store(math.MaxInt64)
	} else {
		s.room.Store(s.queue.Room())
	}
}

// queueing reports whether something is queued.
func (s *sink) queueing() bool { return s.room.Load() != math.MaxInt64 }

func (s *sink) gapEnvelope() *policy.Envelope {
	return s.set.View.Envelope(hostabi.Gap, hostabi.WebSocket, s.dir)
}

// gapNotice renders the notice for count shed messages.
func (s *sink) gapNotice(dst []byte, count int64) []byte {
	env := s.gapEnvelope()
	if env == nil || env.Recipient == hostabi.ToNobody {
		return dst
	}
	v := policy.Values{Code: hostabi.Gap, Count: count, Limit: -1, Actual: -1, TraceID: s.t.o.TraceID}
	return append(dst, envelopeFrame(env, &v, s.dir)...)
}
