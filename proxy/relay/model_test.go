package relay

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/metrics"
	"weir/proxy/policy"
	"weir/proxy/wsframe"
)

// A script is what FuzzEnds plays: how a tunnel is set up, what its peers do, and what
// Weir is told meanwhile. It is read from bytes of fixed meaning, see scriptOf; those
// that are missing are 0. What is promised holds for each: see play.judge.
type script struct {
	loop, lazy, ruled, poor bool // lazy kernels; events for a policy; little memory
	record                  int
	message, buffered       int64 // limits
	grace, idle, ping       time.Duration
	parts                   [2]part // by the direction of what is sent
	events                  [3]occasion
}

// part is what one peer does.
type part struct {
	sizes     []int // of its messages
	fragments bool
	droppable bool // every other of them
	pings     bool // between them
	delay     time.Duration
	before    time.Duration // its end

	reads       reading
	chunk, from int // bytes that it takes at a time, and has taken before it slows down or stops
	interval    time.Duration
	kernel      int // toward it
	room        int // of what it sends, in Weir's kernel

	ends ending
	then answering
}

type reading uint8

const (
	fast     reading = iota
	steadily         // a chunk each interval
	pauses           // once, for most of the grace
	stops            // for good
	inTurn           // answers each message before it reads the next
	inTurnMuch
	slows // down in the middle
	slowly
	readings
)

type ending uint8

const (
	never         ending = iota
	closes               // and reads on
	closesAndEnds        // its side, and reads on
	closesAndStops
	endsSide
	resets
	breaks
	cuts // a message, and ends its side
	cutsAndResets
	hangs              // inside a message
	closesAndRefuses   // and takes nothing: the socket is closed
	endsSideAndRefuses // as when a process ends
	endingKinds
)

// answering is what a peer does that is told the end first.
type answering uint8

const (
	finishes answering = iota // its messages, then it closes
	answers                   // behind the message at hand
	ignores
	leaves // without a close frame
	vanishes
	answerings
)

// occasion is something that Weir is told.
type occasion struct {
	kind uint8
	at   time.Duration
}

const (
	nothing = iota
	drains
	deletes
	reloads
	sheds
	eventKinds
)

// scriptOf reads a script: two bytes of settings, ten for each peer, the client
// first, and two for each event.
func scriptOf(b []byte) (s script) {
	at := func(i int) int {
		if i < len(b) {
			return int(b[i])
		}
		return 0
	}
	f, g := at(0), at(1)
	s.loop, s.lazy, s.ruled, s.poor = f&1 > 0, f&2 > 0, f&4 > 0, f&8 > 0
	s.record = []int{0, 0, 700, 16_000}[f>>4&3]
	s.message = []int64{1 << 20, 150_000, 60_000, 8000}[f>>6]
	s.grace = []time.Duration{5, 1, 20, 5}[g&3] * time.Second
	s.buffered = []int64{5000, 64 << 10, 20_000, 400_000}[g>>2&3]
	s.idle, s.ping = time.Hour, config.Unlimited
	if g&16 > 0 {
		s.idle = 3 * time.Second
	}
	if g&32 > 0 {
		s.ping = 2 * time.Second
	}
	for d := range s.parts {
		s.parts[d] = partOf(func(i int) int { return at(2 + 10*d + i) }, s.grace)
	}
	if s.parts[0].inTurn() && s.parts[1].inTurn() { // they would wait for each other
		s.parts[1].reads = fast
	}
	for i := range s.events {
		s.events[i] = occasion{uint8(at(22+2*i) % eventKinds), time.Duration(at(23+2*i)) * 80 * time.Millisecond}
	}
	return s
}

func partOf(at func(int) int, grace time.Duration) (p part) {
	sizes := []int{20, 100, 1000, 4000, 20_000, 66_000, 90_000, 200_000}
	n, total := at(0)%100, 0
	for i := range n {
		size := sizes[at(1)&7]
		if at(1)&8 > 0 && i%3 > 0 {
			size = 100 * (i % 3)
		}
		if total += size; total > 400_000 {
			break
		}
		p.sizes = append(p.sizes, size)
	}
	if end := at(9); end > 0 {
		p.sizes = p.sizes[:end%(len(p.sizes)+1)]
	}
	p.fragments, p.droppable, p.pings = at(1)&16 > 0, at(1)&32 > 0, at(1)&64 > 0
	p.delay = time.Duration(at(2)%100) * 20 * time.Millisecond
	p.reads = reading(at(3) % int(readings))
	p.from = at(3) / int(readings) * 2000
	p.chunk = []int{100, 300, 1000, 3000, 5000, 20_000, 65_536, 200_000}[at(4)&7]
	p.interval = min(time.Duration(at(5))*4*time.Millisecond, grace*7/10)
	p.kernel = []int{0, 500, 2000, 5000, 20_000, 100_000, 200_000, 1000}[at(6)&7]
	p.room = []int{0, 0, 2000, 20_000}[at(6)>>3&3]
	p.ends = ending(at(7) % int(endingKinds))
	p.then = answering(at(8) & 7 % int(answerings))
	p.before = time.Duration(at(8)>>3) * 80 * time.Millisecond
	return p
}

func (p *part) inTurn() bool { return p.reads == inTurn || p.reads == inTurnMuch }

// bytes returns how many are sent at most, those in turn with what from sends.
func (p *part) bytes(from *part) (n int) {
	for _, size := range p.sizes {
		n += size + 100
	}
	if p.inTurn() {
		n = len(from.sizes) * 21_000
	}
	return n
}

// actor is a peer that plays its part.
type actor struct {
	*peer
	part
	play *play
	turn chan struct{} // held while a message is sent
	told chan struct{} // closed when a close frame has come
	done chan struct{} // closed when it sends no more

	sent     []string // whole, by now
	closed   int      // the code that it sent; 0: none
	hush     bool     // it sends no more
	silent   bool     // it reads no more
	rude     bool     // it has ended other than by a close frame
	vanished bool     // it reset the connection when it was told the end

	held    []byte // not a whole frame yet
	partial string // of a fragmented message
	taken   int
	got     []string
	codes   []int
	cut     bool // the connection was reset, or ended inside a frame
}

// play is a script under way.
type play struct {
	*rig
	script
	actors [2]*actor
	all    sync.WaitGroup // what they do

	mu      sync.Mutex
	touched time.Time // when something moved last

	fell bool // Weir was the first to end the tunnel
	code int  // with this
	hurt bool // it was told to end it at once
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

// put sends b, and waits while Weir's kernel is full. False: nobody takes it.
func (a *actor) put(b []byte) bool {
	for len(b) > 0 {
		n, err := a.w.in.put(b)
		if err != nil {
			a.answerReset()
			return false
		}
		if b = b[n:]; n > 0 {
			a.play.touch()
			continue
		}
		a.w.in.mu.Lock()
		for a.w.in.full() && !a.w.in.reset && !a.w.in.eof {
			a.w.in.changed.Wait()
		}
		a.w.in.mu.Unlock()
	}
	return true
}

// answerReset is what a kernel does that gets something for a connection which Weir has
// closed: of what Weir's had for the peer still, nothing comes any more.
func (a *actor) answerReset() {
	closed := false
	a.w.in.change(func() { closed = a.w.closed })
	a.w.out.change(func() {
		if closed && len(a.w.out.buf) > peerRoom {
			a.w.out.buf, a.w.out.reset = a.w.out.buf[:peerRoom], true
		}
	})
}

// say sends one message, whole.
func (a *actor) say(n int) {
	a.turn <- struct{}{}
	defer func() { <-a.turn }()
	if a.hush {
		return
	}
	id := len(a.sent)
	kind := "critical"
	if a.droppable && id%2 > 0 {
		kind = "presence"
	}
	text := event(kind, id, n)
	var wire []byte
	if a.fragments && id%2 == 0 {
		at := len(text) / 3
		wire = append(a.frame(false, wsframe.Text, text[:at]), a.frame(false, wsframe.Continuation, text[at:at])...)
		wire = append(wire, a.frame(true, wsframe.Continuation, text[at:])...)
	} else {
		wire = a.frame(true, wsframe.Text, text)
	}
	if a.pings {
		wire = append(wire, a.frame(true, wsframe.Ping, "still there?")...)
	}
	if a.put(wire) {
		a.sent = append(a.sent, text)
	} else {
		a.hush = true
	}
}

// farewell sends a close frame, unless it has said its last.
func (a *actor) farewell(code int) {
	a.turn <- struct{}{}
	defer func() { <-a.turn }()
	if !a.hush && a.put(wsframe.AppendClose(nil, uint16(code), "so long", a.mask)) {
		a.closed = code
	}
	a.hush = true
}

// code is what this peer closes with.
func (a *actor) code() int {
	if a.mask != nil {
		return 4001
	}
	return 4002
}

// talks sends what there is to send, and ends as it is to.
func (a *actor) talks() {
	defer close(a.done)
	time.Sleep(a.delay)
	told := func() bool {
		select {
		case <-a.told:
			return true
		default:
			return false
		}
	}
	if a.inTurn() {
		if a.ends == never {
			<-a.told
			return
		}
		select {
		case <-a.told:
			return
		case <-time.After(a.before + time.Duration(len(a.sizes))*100*time.Millisecond):
		}
	} else {
		for _, n := range a.sizes {
			if told() && a.then != finishes {
				break
			}
			a.say(n)
		}
		time.Sleep(a.before)
	}
	if told() {
		return
	}
	a.leave()
}

// leave ends its part.
func (a *actor) leave() {
	defer a.play.touch()
	half := func() {
		a.turn <- struct{}{}
		defer func() { <-a.turn }()
		if !a.hush {
			n := []int{1000, 200_000}[len(a.sent)%2]
			wire := a.frame(true, wsframe.Text, event("critical", len(a.sent), n))
			a.put(wire[:len(wire)*2/3])
		}
		a.hush = true
	}
	switch a.ends {
	case closes:
		a.farewell(a.code())
	case closesAndEnds:
		a.farewell(a.code())
		a.end()
	case closesAndStops:
		a.silent = true
		a.farewell(a.code())
	case endsSide:
		a.rude = true
		a.turn <- struct{}{}
		a.hush = true
		<-a.turn
		a.end()
	case resets:
		a.rude = true
		a.lose()
	case breaks:
		a.rude = true
		a.turn <- struct{}{}
		if !a.hush {
			a.put([]byte("\xff\xff\xff\xff"))
		}
		a.hush = true
		<-a.turn
	case cuts:
		a.rude = true
		half()
		a.end()
	case cutsAndResets:
		a.rude = true
		half()
		a.lose()
	case hangs:
		a.rude = true
		half()
	case closesAndRefuses, endsSideAndRefuses:
		a.rude = true
		if a.ends == closesAndRefuses {
			a.farewell(a.code())
		}
		a.turn <- struct{}{}
		a.hush = true
		<-a.turn
		a.end()
		a.w.out.change(func() { a.w.out.reset, a.w.out.buf = true, nil })
	}
}

// listens reads until the end of the connection, or for ever not.
func (a *actor) listens() {
	defer func() {
		select {
		case <-a.told:
		default:
			close(a.told)
		}
	}()
	paused := false
	for {
		s := a.w.out
		s.mu.Lock()
		for len(s.buf) == 0 && !s.eof && !s.reset {
			s.changed.Wait()
		}
		over, reset := len(s.buf) == 0, s.reset
		s.mu.Unlock()
		if over {
			a.cut = reset || len(a.held) > 0
			a.end()
			return
		}
		most := 1 << 20
		switch {
		case a.silent, a.reads == stops && a.taken >= a.from:
			return
		case a.reads == steadily, a.inTurn(), a.reads == slowly, a.reads == slows && a.taken >= a.from:
			time.Sleep(a.interval)
			most = a.chunk
		case a.reads == pauses && a.taken >= a.from && !paused:
			paused = true
			time.Sleep(a.play.grace * 7 / 10)
		}
		a.take(a.read(1))
		a.w.out.change(func() {
			n := min(most-1, len(s.buf))
			a.held = append(a.held, s.buf[:n]...)
			s.buf = s.buf[n:]
			s.taken += uint64(n)
			a.taken += n
		})
		a.play.touch()
		for a.hear() {
		}
	}
}

func (a *actor) take(b []byte) {
	a.held = append(a.held, b...)
	a.taken += len(b)
}

// hear takes in one frame, if a whole one is here.
func (a *actor) hear() bool {
	h, ok, err := wsframe.Parse(a.held)
	if err != nil {
		a.play.t.Errorf("the %s received a broken header: %v", a.name, err)
		a.held = nil
	}
	if err != nil || !ok || int64(len(a.held)) < int64(h.Size)+h.Length {
		return false
	}
	payload := append([]byte(nil), a.held[h.Size:int64(h.Size)+h.Length]...)
	a.held = a.held[int64(h.Size)+h.Length:]
	wsframe.Mask(payload, h.Mask, 0)
	if len(a.codes) > 0 {
		a.play.t.Errorf("the %s received %v behind a close frame", a.name, h.Opcode)
	}
	switch h.Opcode {
	case wsframe.Close:
		code, _, err := wsframe.ParseClose(payload)
		if err != nil {
			a.play.t.Errorf("the %s received a close frame: %v", a.name, err)
		}
		if a.codes = append(a.codes, int(code)); len(a.codes) == 1 {
			close(a.told)
			a.replies()
		}
	case wsframe.Ping:
		if !a.hush && a.play.ping > 0 {
			a.turn <- struct{}{}
			if !a.hush {
				a.put(a.frame(true, wsframe.Pong, string(payload)))
			}
			<-a.turn
		}
	case wsframe.Pong:
	default:
		a.partial += string(payload)
		if !h.Fin {
			return true
		}
		text := a.partial
		a.got, a.partial = append(a.got, text), ""
		if a.inTurn() && !ofWeir(text) {
			a.say([]int{1000, 20_000}[a.reads-inTurn])
		}
	}
	return true
}

// ofWeir reports whether a message is an envelope or a notice.
func ofWeir(text string) bool {
	return strings.HasPrefix(text, `{"type":"error"`) || strings.HasPrefix(text, `{"gap"`)
}

// replies does what is to be done about a close frame.
func (a *actor) replies() {
	switch a.then {
	case finishes:
		if a.inTurn() {
			a.farewell(a.code())
			return
		}
		a.play.all.Go(func() {
			<-a.done
			time.Sleep(a.before)
			a.farewell(a.code())
		})
	case answers:
		a.farewell(a.code())
	case leaves:
		a.turn <- struct{}{}
		a.hush = true
		<-a.turn
		a.end()
	case vanishes:
		a.vanished = true
		a.lose()
	}
}

// FuzzEnds plays scripts, and holds tunnels to what is promised of their ends.
func FuzzEnds(f *testing.F) {
	f.Fuzz(playScript)
}

func playScript(t *testing.T, b []byte) {
	s := scriptOf(b)
	set := setup{settings: Settings{View: (*policy.Policy)(nil).View("r"), Limits: limits()}, loop: s.loop, record: s.record}
	l := &set.settings.Limits
	l.MaxMessageSize, l.MaxBufferedBytes, l.MaxPendingBytes = s.message, s.buffered, s.buffered
	l.SlowConsumerGrace, l.IdleTimeout, l.PingInterval = s.grace, s.idle, s.ping
	if s.ruled {
		set.settings.View = events(t).View("r")
	}
	if s.poor {
		set.maxMemory = 50_000
	}
	set.before = func(r *rig) {
		for d, p := range [2]*peer{r.c, r.u} {
			p.w.out.room, p.w.out.lazy, p.w.in.room = s.parts[d].kernel, s.lazy, s.parts[d].room
		}
	}
	inBubble(t, func(r *rig) { (&play{rig: r, script: s}).run() }, &set)
}

func (p *play) run() {
	p.touch()
	for d, from := range [2]*peer{p.c, p.u} {
		a := &actor{peer: from, part: p.parts[d], play: p, turn: make(chan struct{}, 1), told: make(chan struct{}), done: make(chan struct{})}
		a.chunk = max(a.chunk, p.parts[d^1].bytes(&p.parts[d])/150)
		p.actors[d] = a
	}
	for _, a := range p.actors {
		p.all.Go(a.talks)
		p.all.Go(a.listens)
	}
	began := time.Now()
	var first time.Time // when it was seen to end
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
	took := time.Since(first)
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
		p.Tunnel.Close(Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "told to"})
	case reloads:
		set := *p.route.Load()
		set.Limits.MaxBufferedBytes = 70_000 - set.Limits.MaxBufferedBytes%60_000
		set.Limits.MaxPendingBytes = set.Limits.MaxBufferedBytes
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
		case 1001, 1002, 1012, 1013, 1014, 4001, 4002:
		default:
			fail("received close %d", code)
		}
	}
	if !p.promised(d) || took >= finishTimeout-time.Second {
		return
	}
	for _, m := range missing {
		if int64(len(m)) <= p.message && !strings.Contains(m, "presence") {
			fail("%d of %d have not come, among them %.50q", len(missing), len(from.sent), m)
			break
		}
	}
	if from.ends == cuts {
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
	case p.hurt, p.poor, p.ping > 0, p.idle < time.Hour:
		return false
	case p.message < 20_000 && (from.reads == inTurnMuch || to.reads == inTurnMuch):
		return false // one that reads no envelopes before it has written is not read
	case p.fell && d == hostabi.ToUpstream: // what the client says is not waited for
		return false
	case from.vanished, to.rude, to.vanished, to.silent, to.reads == stops:
		return false
	case (from.silent || from.reads == stops) && (len(p.parts[d^1].sizes) > 0 || to.inTurn()):
		return false // it may be closed as a slow consumer
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
	case to.closed != 0:
		return 0
	case from.ends == breaks:
		return 1002
	case d == hostabi.ToClient:
		return 1012
	}
	return 1001
}
