package relay

import (
	"time"

	"weir/proxy/config"
)

// A script is what FuzzEnds plays: how a tunnel is set up, what its peers do, and what
// Weir is told meanwhile. It is read from bytes of fixed meaning, see scriptOf; those
// that are missing are 0. What is promised holds for each: see play.judge.
type script struct {
	loop, lazy, ruled, poor bool // lazy kernels; events for a policy; little memory
	record                  int
	message, buffered       int64 // limits
	inbox, rate             int
	halfPending, utf8       bool
	toReceiver              bool // envelopes
	grace, idle, ping       time.Duration
	parts                   [2]part // by the direction of what is sent
	events                  [3]occasion
}

// part is what one peer does.
type part struct {
	sizes     []int // of its messages
	fragments bool
	droppable bool          // every other of them
	pings     bool          // between them
	kinds     int           // of them, in turn
	within    bool          // pings between fragments, too
	babbles   bool          // it breaks by what is no text
	late      time.Duration // its answer to a close frame, or where it pauses that
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
// first, two for each event, one more of settings, and one more for each peer.
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
	h := at(28)
	s.inbox = []int{1000, 100, 20, 3}[h&3]
	s.rate = []int{config.Unlimited, 100, 20, 2}[h>>2&3]
	s.halfPending, s.utf8, s.toReceiver = h&16 > 0, h&32 > 0, h&64 > 0 && s.ruled
	for d := range s.parts {
		p, b := &s.parts[d], at(29+d)
		p.kinds, p.within, p.babbles = b&3, b&4 > 0, b&8 > 0
		if b&16 > 0 {
			p.late = 4500 * time.Millisecond
		}
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

// stopsLong reports whether it reads nothing for longer than the grace.
func (p *part) stopsLong() bool { return p.reads == stops || p.reads == pauses && p.late > 0 }

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
