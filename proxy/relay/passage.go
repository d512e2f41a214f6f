package relay

import (
	"weir/proxy/flow"
)

// part passes on bytes of a large message: all of it, or until its owner has to
// wait.
func (s *sink) part(p *pump, wire []byte, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := flow.Message{Wire: wire, Begun: true}
	if last {
		m.Ends = 1
	}
	if s.gone() || s.closing {
		s.torn = true
		p.lose(int64(m.Ends))
		return
	}
	if s.idle() {
		n, err := s.leg.tr.TryWrite(wire)
		s.parted = s.parted || n > 0 || s.leg.tr.Pending() > 0
		if err != nil {
			s.torn = true
			p.passed(0, int64(n))
			s.fail(err)
			p.lose(int64(m.Ends))
			return
		}
		if n == len(wire) {
			p.passed(int64(m.Ends), int64(n))
			return
		}
		p.passed(0, int64(n))
		m.Wire = wire[n:]
	}
	s.put(p, m)
	s.settle()
}

// lockMessage begins a message that nothing may come between.
func (s *sink) lockMessage() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.torn { // else one before it was cut short, which nothing follows
		s.inMessage, s.mark, s.parted = true, s.queue.Mark(), false
	}
}

// unlockMessage ends it, unless it was cut short, which is finish's to see to.
func (s *sink) unlockMessage() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.torn {
		s.messageOver()
	}
}

// takeBack ends a message that was cut short. False: a part of it is on the wire, and
// nothing sensible can follow.
func (s *sink) takeBack() bool {
	if s.inMessage && !s.parted && s.queue.Retract(s.mark) {
		s.messageOver()
	}
	return !s.inMessage
}

// messageOver sends what waited for the end of a large message.
func (s *sink) messageOver() {
	s.inMessage = false
	for _, wire := range s.dropDeferred() {
		if m := (flow.Message{Wire: wire, Own: true}); !s.queue.Push(m) {
			s.queue.Recall(s.queue.Lend(m))
		}
	}
	if s.farewell != nil {
		s.farewell()
		s.farewell = nil // another message may begin behind it, which is lost
	}
	s.write()
	s.wake.Broadcast()
}

// dropDeferred returns the envelopes that wait for the end of a large message, which wait
// for it no more.
func (s *sink) dropDeferred() (wires [][]byte) {
	s.t.o.Route.Memory.TakeAside(-int64(s.waiting))
	wires, s.deferred, s.waiting = s.deferred, nil, 0
	return wires
}
