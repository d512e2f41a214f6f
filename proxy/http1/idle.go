package http1

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
	return c.state.CompareAndSwap(stateIdle, stateActive) || c.state.CompareAndSwap(stateFresh, stateActive) || c.state.Load() == stateActive
}

// firstBytes reads what is there, once there is something.
func (c *conn) firstBytes(size int) error {
	c.headSize = size
	for {
		if c.armed == past {
			if err := c.arm(); err != nil {
				return err
			}
		}
		err := c.look.Await()
		if !isTimeout(err) {
			return err
		}
		c.armed = past
		if err := c.expired(); err != nil {
			return err
		}
	}
}

// Fill implements fd.Owner.
func (c *conn) Fill() error {
	c.takeReader(c.headSize)
	_, err := c.br.Peek(1)
	return err
}

// Drop implements fd.Owner.
func (c *conn) Drop() { c.dropReader() }

// BeforeWait implements fd.Owner.
func (c *conn) BeforeWait() error { return c.arm() }
