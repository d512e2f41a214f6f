package relay

import (
	"fmt"
	"sync/atomic"
	"time"

	"weir/proxy/wsframe"
)

// actor is a peer that plays its part.
type actor struct {
	*peer
	part
	play *play
	turn chan struct{} // held while a message is sent
	told chan struct{} // closed when a close frame has come
	done chan struct{} // closed when it sends no more

	sent     []string    // whole, by now
	partly   string      // what it sent of one more
	pinged   int         // times
	closed   int         // the code that it sent; 0: none
	first    bool        // then it was told none
	refused  bool        // its answer to one was taken by nobody, though it came in time
	hush     bool        // it sends no more
	silent   atomic.Bool // it reads no more
	rude     bool        // it has ended other than by a close frame
	vanished bool        // it reset the connection when it was told the end

	held    []byte // not a whole frame yet
	seq     wsframe.Sequence
	order   order
	partial string // of a fragmented message
	taken   int
	atEnd   int // of them, when the tunnel had ended
	got     []string
	codes   []int
	cut     bool // the connection was reset, or ended inside a frame
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
	text := a.text(id, n)
	ping := func(behind int) []byte {
		a.pinged++
		return a.frame(true, wsframe.Ping, fmt.Sprintf("ping %d behind %d", a.pinged, behind))
	}
	var wire []byte
	if a.fragments && id%2 == 0 {
		at := len(text) / 3
		wire = append(a.frame(false, wsframe.Text, text[:at]), a.frame(false, wsframe.Continuation, text[at:at])...)
		if a.within {
			wire = append(wire, ping(id-1)...)
		}
		wire = append(wire, a.frame(true, wsframe.Continuation, text[at:])...)
	} else {
		wire = a.frame(true, wsframe.Text, text)
	}
	if a.pings {
		wire = append(wire, ping(id)...)
	}
	if a.put(wire) {
		a.sent = append(a.sent, text)
	} else {
		a.hush, a.partly = true, text
	}
}

// farewell sends a close frame, unless it has said its last.
func (a *actor) farewell(code int) {
	a.turn <- struct{}{}
	defer func() { <-a.turn }()
	if !a.hush && a.put(wsframe.AppendClose(nil, uint16(code), "so long", a.mask)) {
		a.closed, a.first = code, !a.knows()
	}
	a.hush = true
}

// knows reports whether it was told the end.
func (a *actor) knows() bool {
	select {
	case <-a.told:
		return true
	default:
		return false
	}
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
			if a.knows() && a.then != finishes {
				break
			}
			a.say(n)
		}
		time.Sleep(a.before)
	}
	if a.knows() {
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
			a.partly = event("critical", len(a.sent), n)
			wire := a.frame(true, wsframe.Text, a.partly)
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
		a.silent.Store(true)
		a.farewell(a.code())
	case endsSide:
		a.rude = true
		a.endSide()
	case resets:
		a.rude = true
		a.lose()
	case breaks:
		a.rude = true
		a.turn <- struct{}{}
		if a.babbles && a.play.utf8 && !a.hush {
			a.partly = "\xff\xff" // which may be refused for another reason
			a.put(a.frame(true, wsframe.Text, a.partly))
		} else if !a.hush {
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
		a.endSide()
		a.w.out.change(func() { a.w.out.reset, a.w.out.buf = true, nil })
	}
}

// endSide says no more, not in answer either, and ends its side.
func (a *actor) endSide() {
	a.turn <- struct{}{}
	a.hush = true
	<-a.turn
	a.end()
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
		case a.silent.Load(), a.reads == stops && a.taken >= a.from:
			return
		case a.reads == steadily, a.inTurn(), a.reads == slowly, a.reads == slows && a.taken >= a.from:
			time.Sleep(a.interval)
			most = a.chunk
		case a.reads == pauses && a.taken >= a.from && !paused:
			paused = true
			time.Sleep(a.pause())
			if a.late > 0 { // too late
				time.Sleep(a.play.grace)
			}
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

// pause is how long it pauses, unless that is too long.
func (a *actor) pause() time.Duration { return a.play.grace * 7 / 10 }

// lag is how long what its own kernel has taken, peerRoom at most, may wait for it there.
func (a *actor) lag() time.Duration {
	switch a.reads {
	case fast:
		return 0
	case pauses:
		return a.pause()
	}
	return 2 * a.interval
}

// took returns how many bytes it has taken, to whoever asks meanwhile.
func (a *actor) took() (n int) {
	a.w.out.change(func() { n = int(a.w.out.taken) })
	return n
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
	if err := a.seq.Check(&h); err != nil {
		a.play.t.Errorf("the %s received a frame that breaks the protocol: %v", a.name, err)
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
		if !a.order.holds(string(payload), false) {
			a.play.t.Errorf("the %s received %q out of order", a.name, payload)
		}
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
		if !a.order.holds(text, a.play.toReceiver) {
			a.play.t.Errorf("the %s received %.60q out of order", a.name, text)
		}
		if a.inTurn() && !ofWeir(text) {
			a.say([]int{1000, 20_000}[a.reads-inTurn])
		}
	}
	return true
}

// replies does what is to be done about a close frame.
func (a *actor) replies() {
	told := time.Now()
	switch a.then {
	case finishes:
		if a.inTurn() {
			a.farewell(a.code())
			return
		}
		a.play.all.Go(func() {
			<-a.done
			time.Sleep(max(a.before, a.late-time.Since(told)))
			hush := a.hush
			a.farewell(a.code())
			a.refused = !hush && a.closed == 0 && time.Since(told)+a.lag() < closeTimeout
		})
	case answers:
		a.farewell(a.code())
	case leaves:
		a.endSide()
	case vanishes:
		a.vanished = true
		a.lose()
	}
}
