package relay

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
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
// queue is lent: its owner waits until it is written, reading nothing
// meanwhile, and that is the backpressure.
type sink struct {
	t   *Tunnel
	leg *leg
	dir hostabi.Direction // of the messages that go out here

	mu   sync.Mutex
	wake sync.Cond // lent is free again, or the sink stopped

	queue  *flow.Queue
	limits config.Limits
	lent   []byte // what does not fit; not copied, its owner waits
	begun  bool   // a part of lent's message is on the wire, or encrypted

	inMessage bool     // a large message is being passed through: nothing comes between
	deferred  [][]byte // frames that wait for its end

	writing bool // a writer goroutine runs
	stopped bool // the tunnel is ending: only finish writes
	closing bool // a close frame was sent or queued: nothing follows
	err     error

	moved time.Time // last time the kernel took bytes while writing
	grace *time.Timer

	bytes, queued atomic.Int64 // wire bytes and messages in the queue, for /connections
}

// controlCeiling bounds queued control frames, which no limit counts: beyond
// it their sender waits like everybody else.
const controlCeiling = 16 << 10

func (s *sink) init(t *Tunnel, from hostabi.Direction, set *Settings) {
	s.t, s.leg, s.dir = t, &t.legs[from], from^1
	s.wake.L = &s.mu
	s.limits = set.Limits
	s.queue = flow.NewQueue(set.Limits.MaxBufferedBytes, t.o.Route.Memory, s.gapNotice)
}

// configure takes over limits that a reload changed.
func (s *sink) configure(l *config.Limits) {
	s.mu.Lock()
	s.limits = *l
	s.queue.SetLimit(l.MaxBufferedBytes)
	s.mu.Unlock()
}

// send passes a run of whole messages on, in order. It returns when all are
// written, queued, shed or refused.
func (s *sink) send(p *pump, wire []byte, ms []message) *Cause {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := 0
	if s.idle() {
		n, err := s.leg.tr.TryWrite(wire)
		if err != nil {
			return s.fail(err)
		}
		if n == len(wire) {
			p.count(ms, len(wire))
			s.noteClosing(ms)
			return nil
		}
		for first < len(ms) && ms[first].end <= n {
			first++
		}
		if pending := s.leg.tr.Pending(); n > ms[first].start || pending > 0 {
			end := first
			for end+1 < len(ms) && ms[end].end < n+pending {
				end++
			}
			if c := s.rest(wire[n:ms[end].end]); c != nil {
				return c
			}
			first = end + 1
		}
		if first > 0 {
			p.count(ms[:first], ms[first-1].end)
		}
	}
	for i := first; i < len(ms); i++ {
		if s.stopped || s.closing {
			break
		}
		if c := s.enqueue(p, wire[ms[i].start:ms[i].end], &ms[i]); c != nil {
			return c
		}
	}
	s.noteClosing(ms)
	s.settle(p)
	return nil
}

// enqueue queues one message that could not be written at once, by its rule.
func (s *sink) enqueue(p *pump, wire []byte, m *message) *Cause {
	if m.control {
		if s.queue.ControlBytes()+int64(len(wire)) > controlCeiling {
			return s.lend(wire, false)
		}
		s.queue.Push(flow.Message{Wire: wire, Control: true})
		s.write()
		return nil
	}
	fm := flow.Message{Wire: wire}
	if m.rule.Class == hostabi.Droppable {
		prefix := p.quotable(wire)
		if fm.Droppable = p.recallable(m, prefix); fm.Droppable {
			fm.Priority, fm.Conflate = m.rule.Priority, p.conflateName(m, prefix)
		}
	}
	if code, limit, actual := s.overInbox(int64(len(wire))); code != "" {
		if fm.Droppable {
			s.queue.Drop()
			return nil
		}
		return s.refuse(p, code, limit, actual, wire, m)
	}
	if s.queue.Push(fm) {
		p.count([]message{*m}, len(wire))
		s.write()
		return nil
	}
	if s.t.o.Route.Memory.Full() {
		s.t.o.Pressure()
	}
	if fm.Droppable {
		return nil
	}
	p.count([]message{*m}, len(wire))
	return s.lend(wire, false)
}

// overInbox names the ceiling on what waits toward the upstream that one more
// message of n bytes would break.
func (s *sink) overInbox(n int64) (code hostabi.FaultCode, limit, actual int64) {
	if s.dir != hostabi.ToUpstream {
		return "", 0, 0
	}
	if waiting := s.queue.Messages(); waiting >= s.limits.MaxInbox {
		return hostabi.InboxFull, int64(s.limits.MaxInbox), int64(waiting)
	}
	if total := s.queue.Bytes() + n; total > s.limits.MaxPendingBytes && s.queue.Messages() > 0 &&
		s.limits.MaxPendingBytes < s.limits.MaxBufferedBytes {
		return hostabi.PendingLimit, s.limits.MaxPendingBytes, total
	}
	return "", 0, 0
}

// refuse answers one message of a run that the queue has no place for. The
// lock is let go meanwhile: the answer goes out on the other leg.
func (s *sink) refuse(p *pump, code hostabi.FaultCode, limit, actual int64, wire []byte, m *message) *Cause {
	s.mu.Unlock()
	defer s.mu.Lock()
	return p.refuseWhole(code, limit, actual, m.key, p.quotable(wire))
}

// rest queues the rest of a message whose beginning is on the wire.
func (s *sink) rest(wire []byte) *Cause {
	if s.queue.PushRest(wire, true) {
		s.write()
		return nil
	}
	return s.lend(wire, true)
}

// part passes on bytes of a large message: all of it, or until its owner has to
// wait.
func (s *sink) part(p *pump, wire []byte, last bool) *Cause {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last {
		p.count([]message{{}}, len(wire))
	} else {
		p.bytes.add(int64(len(wire)))
	}
	if s.stopped || s.closing || len(wire) == 0 {
		return nil
	}
	if s.idle() {
		n, err := s.leg.tr.TryWrite(wire)
		if err != nil {
			return s.fail(err)
		}
		if wire = wire[n:]; len(wire) == 0 {
			return nil
		}
	}
	if s.queue.PushRest(wire, last) {
		s.write()
		s.settle(p)
		return nil
	}
	return s.lend(wire, true)
}

// lockMessage begins a message that nothing may come between.
func (s *sink) lockMessage() {
	s.mu.Lock()
	s.inMessage = true
	s.mu.Unlock()
}

// unlockMessage ends it and sends what waited for that.
func (s *sink) unlockMessage() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inMessage = false
	for _, wire := range s.deferred {
		s.queue.Push(flow.Message{Wire: wire, Control: true})
	}
	s.deferred = nil
	if !s.queue.Empty() {
		s.write()
	}
}

// inject sends a frame of Weir's own, an envelope, to this leg's peer. When it
// does not fit its cause waits: a peer that reads no answers is not read.
func (s *sink) inject(wire []byte) *Cause {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped || s.closing:
		return nil
	case s.inMessage:
		if len(s.deferred) < maxDeferred {
			s.deferred = append(s.deferred, wire)
		}
		return nil
	case s.idle():
		n, err := s.leg.tr.TryWrite(wire)
		if err != nil {
			return s.fail(err)
		}
		if n == len(wire) {
			return nil
		}
		if n > 0 || s.leg.tr.Pending() > 0 {
			return s.rest(wire[n:])
		}
	}
	if s.queue.Push(flow.Message{Wire: wire}) {
		s.write()
		return nil
	}
	return s.lend(wire, false)
}

// maxDeferred bounds envelopes that wait for a large message to pass. Its
// sender may never finish it, so nobody waits for that; what exceeds the bound
// is counted like every fault, but not told.
const maxDeferred = 64

// ping sends a ping of Weir's own, behind what waits.
func (s *sink) ping() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || s.closing || s.inMessage {
		return
	}
	wire := wsframe.AppendFrame(nil, wsframe.Ping, newMask(s.dir), pingPayload)
	s.queue.Push(flow.Message{Wire: wire, Control: true})
	s.write()
}

// lastMoved returns when the kernel last took queued bytes, in nanoseconds
// since the tunnel's start: a peer that reads slowly is alive.
func (s *sink) lastMoved() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.moved.IsZero() {
		return 0
	}
	return s.t.since(s.moved)
}

// congested reports whether what is sent now would have to wait.
func (s *sink) congested() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.idle()
}

// drop counts a large droppable message that is not passed through.
func (s *sink) drop(p *pump) {
	s.mu.Lock()
	s.queue.Drop()
	s.settle(p)
	s.write()
	s.mu.Unlock()
}

// shed gives up what can be given up.
func (s *sink) shed() {
	s.mu.Lock()
	s.queue.Shed()
	s.settle(&s.t.pumps[s.dir])
	s.mu.Unlock()
}

// idle reports whether nothing waits, so that a write may be tried at once.
func (s *sink) idle() bool {
	return !s.writing && s.lent == nil && s.queue.Empty() && !s.stopped && !s.closing
}

// settle publishes what the queue holds and has given up.
func (s *sink) settle(p *pump) {
	lost := s.queue.Lost()
	if lost.Shed > 0 {
		p.shed.add(lost.Shed)
		s.t.o.Metrics.Dropped(metrics.DroppedShed).Add(float64(lost.Shed))
	}
	if lost.Conflated > 0 {
		p.conflated.add(lost.Conflated)
		s.t.o.Metrics.Dropped(metrics.DroppedConflated).Add(float64(lost.Conflated))
	}
	s.bytes.Store(s.queue.Bytes())
	s.queued.Store(int64(s.queue.Messages()))
}

func (s *sink) noteClosing(ms []message) {
	if slices.ContainsFunc(ms, func(m message) bool { return m.closing }) {
		s.closing = true
	}
}

// gapNotice renders the notice for count shed messages; empty when the policy
// gives none.
func (s *sink) gapNotice(dst []byte, count int64) []byte {
	env := s.t.o.Route.Load().View.Envelope(hostabi.Gap, hostabi.WebSocket, s.dir)
	if env == nil || env.Recipient == hostabi.ToNobody {
		return nil
	}
	v := policy.Values{Code: hostabi.Gap, Count: count, Limit: -1, Actual: -1, TraceID: s.t.o.TraceID}
	return append(dst, envelopeFrame(env, &v, s.dir)...)
}

// quotable returns the beginning of a message of one or more frames, unmasked:
// of an unmasked frame all of it.
func (p *pump) quotable(wire []byte) []byte {
	if h, ok, err := wsframe.Parse(wire); err == nil && ok && !h.Masked && h.Fin {
		return wire[h.Size:]
	}
	return messagePrefix(p.buf.scratch[:0], wire)
}
