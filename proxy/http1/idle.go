package http1

import (
	"io"
	"syscall"
)

// lookout waits for a socket to have something to say, without reading it.
type lookout struct {
	call   func(fd uintptr) bool // bound once, so that a wait costs no closure
	parked bool
	err    error
}

// await waits for the first byte of the next request; false: the connection
// ended, or timed out, or the server drains. On plain TCP it holds no buffer
// meanwhile.
func (c *conn) await(set *Settings) bool {
	if c.plain {
		if c.br != nil && c.br.Buffered() == 0 {
			c.dropReader()
		}
		if c.br == nil && c.readable() != nil {
			return false
		}
	}
	c.takeReader(set.MaxHeadBytes)
	if _, err := c.br.Peek(1); err != nil {
		return false
	}
	return c.state.CompareAndSwap(stateIdle, stateActive)
}

// readable returns when a read would not wait; io.EOF: because the peer closed.
func (c *conn) readable() error {
	for {
		if err := c.arm(); err != nil {
			return err
		}
		c.look.parked, c.look.err = false, nil
		err := c.raw.Read(c.look.call)
		if err == nil {
			return c.look.err
		}
		if !isTimeout(err) {
			return err
		}
		c.armed = past
		if err := c.expired(); err != nil {
			return err
		}
	}
}

// tryRead is the callback of readable. The attempt comes first, since a wait
// forgets what happened before it; after a wait, the read that follows finds
// out what it was.
func (l *lookout) tryRead(fd uintptr) bool {
	if l.parked {
		return true
	}
	n, err := peek(fd)
	switch {
	case err == syscall.EAGAIN:
		l.parked = true
		return false
	case err != nil:
		l.err = err
	case n == 0:
		l.err = io.EOF
	}
	return true
}

// peek looks for one byte without taking it.
func peek(fd uintptr) (n int, err error) {
	var b [1]byte
	for {
		n, _, err = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if err != syscall.EINTR {
			return n, err
		}
	}
}
