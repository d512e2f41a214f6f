package relay

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/hostabi"
	"weir/proxy/metrics"
	"weir/proxy/policy"
	"weir/proxy/wsframe"
)

// play is a script under way.
type play struct {
	*rig
	script
	views  [2]*policy.View // that reloads change to, by turns
	actors [2]*actor
	all    sync.WaitGroup // what they do

	mu      sync.Mutex
	touched time.Time // when something moved last

	fell bool // Weir was the first to end the tunnel
	code int  // with this
	hurt bool // it was told to end it at once

	cutOff time.Time // it was told to when it had ended
}

func (p *play) touch() {
	p.mu.Lock()
	p.touched = time.Now()
	p.mu.Unlock()
}

func (p *play) quiet() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.touched)
}

// FuzzEnds plays scripts, and holds tunnels to what is promised of their ends.
func FuzzEnds(f *testing.F) {
	f.Fuzz(playScript)
}

func playScript(t *testing.T, b []byte) {
	s := scriptOf(b)
	set := setup{settings: Settings{View: (*policy.Policy)(nil).View("r"), Limits: limits()}, loop: s.loop, record: s.record}
	l := &set.settings.Limits
	var views [2]*policy.View
	l.MaxMessageSize, l.MaxBufferedBytes, l.MaxPendingBytes = s.message, s.buffered, s.buffered
	l.MaxInbox, l.MessageRate, l.MessageBurst, l.ValidateUTF8 = s.inbox, s.rate, 3, s.utf8
	if s.halfPending {
		l.MaxPendingBytes /= 2
	}
	l.SlowConsumerGrace, l.IdleTimeout, l.PingInterval = s.grace, s.idle, s.ping
	if s.ruled {
		for i := range views {
			views[i] = telling(t, recipient(s.toReceiver)).View("r")
		}
		set.settings.View = views[0]
	}
	if s.poor {
		set.maxMemory = 50_000
	}
	set.before = func(r *rig) {
		for d, p := range [2]*peer{r.c, r.u} {
			p.w.out.room, p.w.out.lazy, p.w.in.room = s.parts[d].kernel, s.lazy, s.parts[d].room
		}
	}
	inBubble(t, func(r *rig) { (&play{rig: r, script: s, views: views}).run() }, &set)
}

func (p *play) run() {
	p.touch()
	for d, from := range [2]*peer{p.c, p.u} {
		a := &actor{peer: from, part: p.parts[d], play: p, turn: make(chan struct{}, 1), told: make(chan struct{}), done: make(chan struct{}), seq: wsframe.NewSequence(from.mask == nil)}
		a.chunk = max(a.chunk, p.parts[d^1].bytes(&p.parts[d])/150)
		p.actors[d] = a
	}
	for _, a := range p.actors {
		p.all.Go(a.talks)
		p.all.Go(a.listens)
	}
	began := time.Now()
	var first time.Time // when it was seen to end
	ended := false
	for over := false; !over; {
		for i := range p.events {
			if e := &p.events[i]; e.kind != nothing && time.Since(began) >= e.at {
				p.happens(e.kind)
				e.kind = nothing
			}
		}
		synctest.Wait()
		if first.IsZero() && (p.known() != nil || p.Tunnel.ended()) {
			first = time.Now()
		}
		if !ended && p.Tunnel.ended() {
			ended = true
			for _, a := range p.actors {
				a.atEnd = a.took()
			}
		}
		switch quiet := p.quiet(); {
		case first.IsZero() && quiet > 30*time.Second:
			p.happens(drains)
		case first.IsZero():
		case quiet > 2*closeTimeout+2*p.grace+3*lingerTimeout:
			p.t.Errorf("nothing has moved for %v, and it has not ended: %v", quiet, p.known())
			return
		case time.Since(first) > 3*finishTimeout+time.Minute:
			p.t.Errorf("has not ended %v after its first cause", time.Since(first))
			return
		}
		select {
		case <-p.ended:
			over = true
		case <-time.After(80 * time.Millisecond):
		}
	}
	if !ended {
		for _, a := range p.actors {
			a.atEnd = a.took()
		}
	}
	var took time.Duration
	if !first.IsZero() {
		took = time.Since(first)
	}
	if !p.cutOff.IsZero() && time.Since(p.cutOff) > lingerTimeout+time.Second {
		p.t.Errorf("has ended %v after it was to be cut off", time.Since(p.cutOff))
	}
	if most := p.within(); most > 0 && took > most {
		p.t.Errorf("has ended %v after its first cause, which %v are enough for", took, most)
	}
	for _, a := range p.actors {
		a.w.in.change(func() { a.w.in.reset = true })
	}
	p.all.Wait()
	synctest.Wait()
	for d := range p.actors {
		p.judge(hostabi.Direction(d), took)
	}
	if p.t.Failed() {
		for _, a := range p.actors {
			p.t.Logf("the %s sent %d, closed %d, received %d, %v, reset %v", a.name, len(a.sent), a.closed, len(a.got), a.codes, a.cut)
		}
		p.t.Logf("it took %v\n%s%+v", took, p.log, p.script)
	}
}

// happens tells Weir something.
func (p *play) happens(kind uint8) {
	synctest.Wait()
	open := p.known() == nil && !p.Tunnel.ended()
	switch kind {
	case drains:
		p.hurt = p.hurt || p.drained.Load()
		if open {
			p.fell, p.code = true, 1012
		}
		p.Drain(0)
	case deletes:
		p.hurt = p.hurt || !open
		if open {
			p.fell, p.code = true, 1001
		}
		if p.cutOff.IsZero() && p.Tunnel.ended() {
			p.cutOff = time.Now()
		}
		p.Tunnel.Close(Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "told to"})
	case reloads:
		set := *p.route.Load()
		set.Limits.MaxBufferedBytes = 70_000 - set.Limits.MaxBufferedBytes%60_000
		set.Limits.MaxPendingBytes = set.Limits.MaxBufferedBytes
		if p.ruled {
			p.views[0], p.views[1] = p.views[1], p.views[0]
			set.View = p.views[0]
		}
		p.route.Store(&set)
	case sheds:
		p.Shed()
	}
	p.touch()
}

// judge holds what came in direction d to what was sent.
func (p *play) judge(d hostabi.Direction, took time.Duration) {
	from, to := p.actors[d], p.actors[d^1]
	fail := func(format string, args ...any) {
		p.t.Helper()
		p.t.Errorf("%v, %s: %s", d, to.name, fmt.Sprintf(format, args...))
	}
	// In order, unaltered, each once.
	at, gaps := 0, 0
	var missing []string
	for _, g := range to.got {
		if ofWeir(g) {
			gaps++
			continue
		}
		i := at
		for i < len(from.sent) && from.sent[i] != g {
			i++
		}
		if i == len(from.sent) {
			fail("received what was not sent, or not then: %.100q", g)
			return
		}
		missing = append(missing, from.sent[at:i]...)
		at = i + 1
	}
	missing = append(missing, from.sent[at:]...)
	if len(to.codes) > 1 {
		fail("received close frames %v", to.codes)
	}
	f := p.Info().Flow[d]
	came := int64(len(to.got) - gaps)
	if came > f.Messages && p.record == 0 || len(to.codes) > 0 && came != f.Messages {
		fail("%d came, %d are counted", came, f.Messages)
	}
	for _, code := range to.codes {
		switch code {
		case 1001, 1002, 1007, 1008, 1012, 1013, 1014, 4001, 4002:
		default:
			fail("received close %d", code)
		}
	}
	whole := p.promised(d) && took < finishTimeout-time.Second
	p.account(d, missing, whole, fail)
	p.taken(d, whole, fail)
	if from.refused && !from.rude && to.first && !to.rude && !to.silent.Load() && !to.stopsLong() && !from.stopsLong() && p.cause.Initiator != metrics.ByWeir && !p.hurt && !p.poor && took < finishTimeout-time.Second {
		fail("the answer to its close frame was not waited for, the tunnel ended in %v", took)
	}
	if !whole {
		return
	}
	if from.ends == cuts && len(to.held) > 0 {
		return // inside a large message no close frame can come
	}
	if len(to.codes) == 0 {
		fail("received no close frame")
	} else if want := p.due(d); want != 0 && to.codes[0] != want {
		fail("received close %d, want %d", to.codes[0], want)
	}
}

// promised reports whether all that was sent in direction d has to arrive: its sender
// ended in order, its receiver went on reading.
func (p *play) promised(d hostabi.Direction) bool {
	from, to := p.actors[d], p.actors[d^1]
	switch {
	case p.hurt, p.poor, p.ping > 0, p.idle < time.Hour, p.cause.Fault == hostabi.RateLimited:
		return false
	case (from.inTurn() || to.inTurn()) && p.Info().Flow[0].Refused+p.Info().Flow[1].Refused > 0:
		return false // one that reads no envelopes before it has written is not read
	case p.fell && d == hostabi.ToUpstream: // what the client says is not waited for
		return false
	case from.vanished, to.rude, to.vanished, to.silent.Load(), to.stopsLong():
		return false
	case (from.silent.Load() || from.stopsLong()) && (len(p.parts[d^1].sizes) > 0 || to.inTurn() || p.Info().Flow[d].Refused > 0):
		return false // it may be closed as a slow consumer, of envelopes, too
	case from.closed != 0:
		return true
	}
	switch from.ends {
	case endsSide, endsSideAndRefuses, breaks, cuts:
		return from.rude
	}
	return false
}

// due is the close code that the receiver of direction d is promised; 0: any.
func (p *play) due(d hostabi.Direction) int {
	from, to := p.actors[d], p.actors[d^1]
	switch {
	case p.fell:
		return p.code
	case from.closed != 0:
		return from.closed
	case to.closed != 0, to.rude && to.ends == breaks:
		return 0
	case from.ends == breaks && from.babbles && p.utf8:
		return 1007
	case from.ends == breaks:
		return 1002
	case d == hostabi.ToClient:
		return 1012
	}
	return 1001
}
