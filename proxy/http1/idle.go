package http1

import "syscall"

// lookout waits for the first bytes of a request without holding a buffer.
type lookout struct {
	call    func(fd uintptr) bool // bound once, so that a wait costs no closure
	size    int                   // of the reader to take
	fd      uintptr               // where conn.Read reads from meanwhile, if reading
	reading bool
	err     error
}

// await waits for the first byte of the next request; false: the connection
// ended, or timed out, or the server drains. On plain TCP it holds no buffer
// meanwhile.
func (c *conn) await(set *Settings) bool {
	if c.plain && (c.br == nil || c.br.Buffered() == 0) {
		if c.firstBytes(set.MaxHeadBytes) != nil {
			return false
		}
	} else {
		c.takeReader(set.MaxHeadBytes)
		if _, err := c.br.Peek(1); err != nil {
			return false
		}
	}
	return c.state.CompareAndSwap(stateIdle, stateActive)
}

// firstBytes reads what is there, once there is something.
func (c *conn) firstBytes(size int) error {
	for {
		if c.armed == past || c.quiet != nil && c.quiet.Dry() {
			if err := c.arm(); err != nil {
				return err
			}
		}
		c.look.size, c.look.err = size, nil
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

// tryFirst is the callback of firstBytes; false parks until the socket has
// something to say. The attempt comes first always, since a wait forgets what
// happened before it.
func (c *conn) tryFirst(fd uintptr) bool {
	c.takeReader(c.look.size)
	c.look.fd, c.look.reading = fd, true
	_, err := c.br.Peek(1)
	c.look.reading = false
	if err == syscall.EAGAIN {
		c.dropReader()
		if err = c.arm(); err == nil {
			return false
		}
	}
	c.look.err = err
	return true
}
