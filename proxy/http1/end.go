package http1

import (
	"io"
	"net"
	"time"

	"weir/proxy/fd"
)

const (
	drainBytes  = 64 << 10               // of an unread request body, read to keep the connection
	drainTime   = 100 * time.Millisecond // for them to arrive
	lingerBytes = 64 << 20               // of a refused body, read so that the answer is not lost
	lingerTime  = 2 * time.Second
)

// discardBuffered reads what is here of the request body; true: that was all,
// and the connection stays usable.
func (x *Exchange) discardBuffered() bool {
	if x.Body == nil || x.Body.Done() {
		return true
	}
	if x.expecting.Load() || x.c.interrupted.Load() {
		return false
	}
	for x.Body.Buffered() > 0 {
		if _, err := x.Body.Next(); err != nil {
			break
		}
	}
	return x.Body.Done()
}

// discard does the same behind the handler, where no interrupt counts any more, and waits
// a little for the rest of a small body.
func (x *Exchange) discard() bool {
	x.c.resume()
	if x.body.err == ErrInterrupted {
		x.body.err = nil
	}
	if x.discardBuffered() {
		return true
	}
	if x.body.left > drainBytes {
		return false
	}
	x.c.wait(drainTime, false)
	for n := 0; n < drainBytes; {
		p, err := x.Body.Next()
		if n += len(p); err != nil {
			return err == io.EOF
		}
	}
	return false
}

// end brings the connection into a defined state after the handler: true when
// it can take another request.
func (x *Exchange) end() bool {
	if !x.started && !x.aborted {
		_ = x.Respond(500, "", nil) // a handler that answers nothing
	}
	if x.err == nil && !x.finished {
		x.Abort() // what it wanted to say remains unknown
	}
	if x.err != nil {
		// What the kernel has of a cut answer counts nowhere once it is closed.
		if x.err == ErrAborted && x.c.unsent() {
			x.c.deliver(x.toEnd)
		}
		return false
	}
	if x.close {
		if x.Body != nil && !x.Body.Done() || x.Info.Upgrade {
			x.c.linger()
		} else {
			x.c.depart()
		}
		return false
	}
	if x.discard() {
		return true
	}
	x.c.linger()
	return false
}

// depart ends the connection behind an answer that was the last, whether the client
// knew or has sent its next request already.
func (c *conn) depart() {
	if c.br != nil && c.br.Buffered() > 0 || c.unread() || c.unsent() {
		c.linger()
	} else {
		c.endTLS() // without that the answer would look cut
	}
}

// unread tells whether bytes have come that were not read.
func (c *conn) unread() (some bool) {
	if c.raw == nil {
		return false
	}
	_ = c.raw.Control(func(s uintptr) { some = fd.Peek(s) == nil })
	return some
}

// unsent tells whether the kernel has more for the client than it could send so far.
func (c *conn) unsent() (some bool) {
	if c.acks != nil {
		_, some = c.acks.Acked()
	}
	return some
}

// linger closes the writing side and reads what the client still sends, up to
// a bound, and for as long as it goes on taking what was written: a close with unread
// bytes, or before others come, would reset the connection, and the client would lose
// the answer (RFC 9112 §9.6).
func (c *conn) linger() {
	if !c.closeWrite() {
		return
	}
	c.resume()
	c.takeReader(0)
	c.wait(lingerTime, false)
	c.writeSince = time.Now()
	for n := 0; n < lingerBytes; {
		if c.br.Buffered() == 0 {
			if _, err := c.br.Peek(1); err != nil {
				if !c.delivering() {
					return
				}
				if !isTimeout(err) { // it says no more, and may take the rest
					c.leave()
					time.Sleep(lingerTime)
				}
				c.wait(lingerTime, false)
				continue
			}
		}
		k, _ := c.br.Discard(c.br.Buffered())
		n += k
	}
}

// deliver waits for as long as the client goes on taking what there is of a cut answer.
// Where it ends with the connection only a reset says that it was cut, which throws away
// what the kernel still has, and an end of the writing side would call it whole.
func (c *conn) deliver(toEnd bool) {
	if !toEnd {
		c.linger()
		return
	}
	c.leave()
	for c.writeSince = time.Now(); c.delivering(); {
		time.Sleep(lingerTime)
	}
}

// delivering tells whether the client goes on taking what the kernel has for it. One
// that takes nothing is reset: that would be kept for minutes.
func (c *conn) delivering() bool {
	if !c.unsent() {
		return false
	}
	if c.stalled(0) {
		reset(c.nc)
		return false
	}
	return true
}

// endTLS says on a connection with TLS that nothing more comes, as whoever closes
// has to (RFC 9112 §9.8).
func (c *conn) endTLS() {
	if !c.plain {
		c.closeWrite()
	}
}

// closeWrite ends the writing side; false: it cannot be ended by itself. The end of TLS
// waits like the answer for a client that reads slowly.
func (c *conn) closeWrite() bool {
	if s, ok := c.nc.(interface{ EndTLS() bool }); ok && s.EndTLS() && c.write(nil) != nil {
		return false
	}
	half, ok := c.nc.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}

// cut closes the connection so that no answer under way can be taken for whole.
func (c *conn) cut() {
	if c.unframed.Load() {
		reset(c.nc)
	}
	_ = c.nc.Close()
}

// reset has the close that follows send RST.
func reset(nc net.Conn) {
	switch c := nc.(type) {
	case interface{ Abort() error }:
		_ = c.Abort()
	case interface{ SetLinger(int) error }:
		_ = c.SetLinger(0)
	}
}
