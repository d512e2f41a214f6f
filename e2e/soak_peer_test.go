//go:build e2e

package e2e

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"
)

// soakPeer is one end of a tunnel: it sends numbered messages and notes what it
// gets, each at a pace of its own. Both ends are the same, so that either can be
// the slow one.
type soakPeer struct {
	c      net.Conn
	br     *bufio.Reader
	seed   int64
	tunnel uint32
	sends  int // direction
	note   func(happening)
	stop   <-chan struct{} // asks for an end in order

	pongs   chan []byte
	closing chan uint16 // the other end's close code
	gone    chan struct{}
	sent    int // messages written whole, or begun
}

// soakEnd is how a peer leaves.
type soakEnd uint8

const (
	endNot   soakEnd = iota // leaves it to the other
	endClose                // close frame
	endReset                // RST
	endCut                  // FIN without a close frame
)

const soakPatience = 60 * time.Second

// run lasts until the connection is gone.
func (p *soakPeer) run(r *rand.Rand) {
	p.pongs, p.closing, p.gone = make(chan []byte, 4), make(chan uint16, 1), make(chan struct{})
	var writer sync.WaitGroup
	w := rand.New(rand.NewPCG(r.Uint64(), 1))
	writer.Go(func() { p.write(w) })
	err := p.read(rand.New(rand.NewPCG(r.Uint64(), 2)))
	close(p.gone)
	p.c.Close()
	writer.Wait()
	if isTimeout(err) {
		p.note(happening{sawWrong, 0, fmt.Sprintf("nothing comes for %v", soakPatience)})
	}
	p.note(happening{sawEnd, int64(p.sent), err.Error()})
}

// plan of this end: how and when it leaves.
func (p *soakPeer) leaving(r *rand.Rand) (soakEnd, time.Duration) {
	after := 300*time.Millisecond + time.Duration(r.IntN(4500))*time.Millisecond
	n := r.IntN(100)
	switch {
	case p.sends == toClient && n >= 25, n >= 90:
		return endNot, after
	case p.sends == toClient && n < 5, p.sends == toUpstream && n < 12:
		return endReset, after
	case p.sends == toClient && n < 10, p.sends == toUpstream && n < 20:
		return endCut, after
	}
	return endClose, after
}

func (p *soakPeer) write(r *rand.Rand) {
	how, after := p.leaving(r)
	leave, stop := time.After(after), p.stop
	pause := time.NewTimer(0)
	defer pause.Stop()
	burst := 0
	for {
		if burst > 0 {
			burst--
			pause.Reset(0)
		} else {
			switch n := r.IntN(200); {
			case n == 0:
				burst = 500 + r.IntN(3000)
			case n < 3:
				pause.Reset(time.Duration(r.IntN(300)) * time.Millisecond)
			default:
				pause.Reset(time.Duration(r.IntN(4000)) * time.Microsecond)
			}
		}
		select {
		case <-p.gone:
			return
		case code := <-p.closing:
			p.sendClose(code)
			return
		default:
		}
		select {
		case <-p.gone:
			return
		case code := <-p.closing:
			p.sendClose(code)
			return
		case payload := <-p.pongs:
			_, _ = p.c.Write(p.frame(nil, 0x8a, payload))
		case <-stop:
			stop, how, leave = nil, endClose, time.After(0)
		case <-leave:
			switch how {
			case endClose:
				p.sendClose(uint16(1000 + 3001*r.IntN(2)))
				return
			case endReset:
				tcp := underlying(p.c)
				_ = tcp.SetLinger(0)
				tcp.Close()
				return
			case endCut:
				_ = underlying(p.c).CloseWrite()
				return
			}
		case <-pause.C:
			if !p.send(r) {
				return
			}
		}
	}
}

// send sends the next message.
func (p *soakPeer) send(r *rand.Rand) bool {
	p.sent++
	m := plan(p.seed, p.tunnel, p.sends, p.sent)
	text := m.text(p.sends, p.sent)
	first := byte(0x01)
	for left := m.fragments; left > 0; left-- {
		part := text
		if left > 1 {
			part = text[:r.IntN(len(text)/2+1)]
		} else {
			first |= 0x80
		}
		text = text[len(part):]
		if _, err := p.c.Write(p.frame(nil, first, part)); err != nil {
			return false
		}
		first = 0
		if left > 1 && r.IntN(4) == 0 {
			if _, err := p.c.Write(p.frame(nil, 0x89, []byte("ping"))); err != nil {
				return false
			}
		}
	}
	return true
}

// sendClose says how many messages came before it, so that the other end knows
// who closes.
func (p *soakPeer) sendClose(code uint16) {
	b := binary.BigEndian.AppendUint16(nil, code)
	b = append(b, soakName(p.sends)...)
	b = strconv.AppendInt(b, int64(p.sent), 10)
	_, _ = p.c.Write(p.frame(nil, 0x88, b))
}

// soakName is how the close reason of an end begins.
func soakName(sends int) string {
	return [2]string{toUpstream: "client:", toClient: "upstream:"}[sends]
}

// frame appends a frame, masked when a client sends it.
func (p *soakPeer) frame(b []byte, first byte, payload []byte) []byte {
	masked := byte(0)
	if p.sends == toUpstream {
		masked = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, first, masked|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, first, masked|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, first, masked|127), uint64(n))
	}
	if masked == 0 {
		return append(b, payload...)
	}
	var mask [4]byte
	binary.LittleEndian.PutUint32(mask[:], rand.Uint32())
	b = append(b, mask[:]...)
	start := len(b)
	b = append(b, payload...)
	for i := range b[start:] {
		b[start+i] ^= mask[i&3]
	}
	return b
}

// read notes what arrives until the connection ends.
func (p *soakPeer) read(r *rand.Rand) error {
	var (
		text   []byte
		inside bool
		pause  = time.NewTimer(0)
		next   = time.Now().Add(time.Duration(r.IntN(1500)) * time.Millisecond)
	)
	defer pause.Stop()
	for {
		if time.Now().After(next) { // reads nothing for a while
			wait := time.Duration(r.IntN(900)) * time.Millisecond
			if r.IntN(50) == 0 {
				wait = 5 * time.Second // may be longer than Weir bears with
			}
			pause.Reset(wait)
			select {
			case <-pause.C:
			case <-p.stop:
			}
			next = time.Now().Add(time.Duration(100+r.IntN(1500)) * time.Millisecond)
		}
		_ = p.c.SetReadDeadline(time.Now().Add(soakPatience))
		first, payload, err := p.readFrame()
		if err != nil {
			return err
		}
		switch op := first & 0x0f; {
		case op == 8:
			code, reason := 1005, ""
			if len(payload) >= 2 {
				code, reason = int(binary.BigEndian.Uint16(payload)), string(payload[2:])
			}
			p.note(happening{sawClose, int64(code), reason})
			select {
			case p.closing <- uint16(code):
			default:
				p.note(happening{sawWrong, 0, "a second close frame"})
			}
		case op == 9:
			select {
			case p.pongs <- payload:
			default:
			}
		case op == 10:
		case op == 1 && inside, op == 0 && !inside, op > 2:
			p.note(happening{sawWrong, 0, fmt.Sprintf("a frame that begins %#x, inside a message: %v", first, inside)})
			return errors.New("broken")
		default:
			text = append(text, payload...)
			if inside = first&0x80 == 0; !inside {
				p.note(recognise(p.seed, p.tunnel, p.sends^1, text))
				text = text[:0]
			}
		}
	}
}

func (p *soakPeer) readFrame() (first byte, payload []byte, err error) {
	var h [8]byte
	if _, err = io.ReadFull(p.br, h[:2]); err != nil {
		return 0, nil, err
	}
	first = h[0]
	masked, n := h[1]&0x80 != 0, uint64(h[1]&0x7f)
	switch n {
	case 126:
		_, err = io.ReadFull(p.br, h[:2])
		n = uint64(binary.BigEndian.Uint16(h[:2]))
	case 127:
		_, err = io.ReadFull(p.br, h[:8])
		n = binary.BigEndian.Uint64(h[:8])
	}
	if err != nil {
		return 0, nil, err
	}
	if masked != (p.sends == toClient) || n > 1<<24 {
		p.note(happening{sawWrong, 0, fmt.Sprintf("a frame of %d bytes, masked: %v", n, masked)})
		return 0, nil, errors.New("broken")
	}
	var mask [4]byte
	if masked {
		if _, err = io.ReadFull(p.br, mask[:]); err != nil {
			return 0, nil, err
		}
	}
	payload = make([]byte, n)
	if _, err = io.ReadFull(p.br, payload); err != nil {
		return 0, nil, err
	}
	if masked {
		for i := range payload {
			payload[i] ^= mask[i&3]
		}
	}
	return first, payload, nil
}
