package relay

import (
	"sync"
	"sync/atomic"

	"weir/proxy/poll"
)

// polled is a Transport that says when it can be read, on a loop that many
// share. Its pump needs no goroutine while nothing arrives. sock.Leg is the one
// on real sockets.
type polled interface {
	// OnReadable has read called whenever something may be there, until
	// StopReading. read must not wait before it has called Pause and leave; it
	// tells how long its turn was.
	OnReadable(read func(leave func()) poll.Turn) error
	StopReading()
	Pause()
	// Resume has it called again, and in any case if there is more to do.
	Resume(more bool) error
	// TryRead reads once, of TLS a record at most; 0 and no error: nothing is there. At
	// its end each call returns an error.
	TryRead(p []byte) (int, error)
	// Steps is how many things the last TryRead has computed, or a few more: records of TLS,
	// which may have no data; 1 at least.
	Steps() int
	// Ahead reports whether bytes may be here that no call announces.
	Ahead() bool
}

// onLoop is what a pump has that is called by a loop.
type onLoop struct {
	tr polled // nil: the pump has a goroutine of its own

	mu    sync.Mutex  // held while the pump works
	leave func()      // of the call under way; nil: it need not leave, or has
	away  bool        // the call under way has left its loop
	turn  poll.Turn   // what the call under way was
	over  atomic.Bool // the pump has ended; set under mu

	writes   int  // of the turn under way, and refusals; mostWrites end it, as leaving the loop does
	unjudged bool // the buffer has more, which waits for the next turn
}

// serve starts the pump on its loop. What came early is carried by a goroutine,
// which may wait.
func (p *pump) serve() {
	p.loop.mu.Lock()
	early := len(p.carry) > 0
	p.loop.mu.Unlock()
	if early {
		go p.listen()
	} else {
		p.listen()
	}
}

func (p *pump) listen() {
	l := &p.loop
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over.Load() || !p.work(p.early) {
		return
	}
	p.ask(func() error { return l.tr.OnReadable(p.ready) })
}

// ask asks for calls of ready. A leg that nobody is told of is as good as lost.
func (p *pump) ask(how func() error) {
	err := errPanicked
	p.t.guard(func() { err = how() })
	if err != nil {
		p.conclude(p.t.lost(p.dir, err))
	}
}

// ready is what the loop calls.
func (p *pump) ready(leave func()) poll.Turn {
	l := &p.loop
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over.Load() {
		return poll.Short
	}
	l.leave, l.away, l.turn, l.writes = leave, false, poll.Short, 0
	more := p.work(p.readable)
	l.leave = nil
	if more && l.away {
		p.ask(func() error { return l.tr.Resume(l.turn == poll.Again) })
	}
	return l.turn
}

const (
	longTurn  = 32 << 10  // bytes that make a turn a long one; slowSize toward a slow peer
	mostTurn  = 128 << 10 // bytes of one turn on a loop, when there may be more
	mostReads = 32        // of one, or records of TLS: before its byte one may have 16 key updates

	mostWrites = 64 // of a turn: a message may have 6 bytes, and it, or its answer, take one each
)

// readable reads, and judges and passes on what came.
func (p *pump) readable() (*Cause, bool) {
	l := &p.loop
	for came, reads := 0, 0; ; {
		n, more, err := 0, true, error(nil)
		if !l.unjudged {
			n, more, err = p.gather(&reads)
		}
		if n > 0 || l.unjudged {
			if c, more := p.batch(n); !more {
				return c, false
			}
		}
		if err != nil && !l.unjudged { // else it is told again
			p.in.silent = true
			if p.t.ended() {
				return nil, false
			}
			return p.t.lost(p.dir, err), false
		}
		if came += n; came >= longTurn || came >= slowSize && p.out.sink.queueing() {
			l.turn = poll.Long
		}
		switch {
		case l.unjudged:
			l.turn = poll.Again
			p.charge(int64(len(p.buf.data) + bufferCost))
			return nil, true
		case !more || p.t.ended():
		case came >= mostTurn || reads >= mostReads:
			l.turn = poll.Again
		default:
			continue
		}
		p.Idle()
		return nil, true
	}
}

// all is batch for who takes no turns.
func (p *pump) all(n int) (c *Cause, more bool) {
	for {
		p.loop.writes = 0
		if c, more = p.batch(n); !more || !p.loop.unjudged {
			return c, more
		}
		n = 0
	}
}

// gather reads what is here, as far as there is space for it: records of TLS, which may
// have a byte each, go on in one write. more: there may be more.
func (p *pump) gather(reads *int) (n int, more bool, err error) {
	for space := p.Space(); ; {
		k, err := p.loop.tr.TryRead(space[n:])
		n += k
		*reads += p.loop.tr.Steps()
		switch {
		case err != nil, k == 0, !p.loop.tr.Ahead():
			return n, false, err
		case n == len(space), *reads >= mostReads:
			return n, true, nil
		}
	}
}

// work runs one step of the pump, and ends the pump when it was the last.
func (p *pump) work(step func() (*Cause, bool)) (more bool) {
	var c *Cause
	p.t.guard(func() { c, more = step() })
	if more && !p.t.ended() {
		return true
	}
	p.conclude(c)
	return false
}

// leaveLoop is called before anything that may wait: the loop goes on in
// another goroutine, and this one is the pump's until the call ends.
func (p *pump) leaveLoop() {
	l := &p.loop
	if l.leave == nil {
		return
	}
	leave := l.leave
	l.leave, l.away = nil, true
	l.writes = mostWrites // the rest is judged on the loop again
	l.tr.Pause()
	leave()
}

// interrupt ends a pump on a loop whose tunnel is ending. It may be the pump
// itself that ends it, so nothing waits for it here.
func (p *pump) interrupt() {
	if p.loop.tr == nil || p.loop.over.Load() {
		return
	}
	go func() {
		l := &p.loop
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.over.Load() {
			p.conclude(nil)
		}
	}()
}

// conclude ends the pump.
func (p *pump) conclude(c *Cause) {
	p.loop.over.Store(true)
	p.t.guard(p.loop.tr.StopReading)
	p.t.guard(p.release)
	if c != nil {
		p.t.end(*c)
	}
	p.t.oneLess()
}
