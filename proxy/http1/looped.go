package http1

import "weir/proxy/poll"

// looped is a connection that may be served by a task on a loop (sock.Conn).
type looped interface {
	Task() *poll.Task // nil: a goroutine serves it
	BindRead(*poll.Task)
	OnHangup(gone func()) (stop func(), ok bool)
}

// Leave is called before anything that waits for something else than the
// connection, or computes for long: a loop that serves the exchange goes on
// without it, until it waits for the connection again.
func (x *Exchange) Leave() { x.c.leave() }

// Lighten is Leave before what only waits, for something that many may wait for at
// once: nothing waits but the exchange.
func (x *Exchange) Lighten() { x.c.lighten() }

func (c *conn) leave() {
	if t := c.task(); t != nil {
		t.Leave()
	}
}

func (c *conn) lighten() {
	if t := c.task(); t != nil {
		t.Lighten()
	}
}

// task is what serves the connection; nil: a goroutine.
func (c *conn) task() *poll.Task {
	if c.looped == nil {
		return nil
	}
	return c.looped.Task()
}

// Apart says whether the body is read by a goroutine beside the one that
// handles its exchange. A client that waits for 100 (Continue) gets it now.
func (b *BodyReader) Apart(apart bool) {
	if b.x == nil {
		return
	}
	if apart {
		b.x.sendContinue()
	}
	if l := b.x.c.looped; l != nil {
		t := l.Task()
		if apart {
			t = nil
		}
		l.BindRead(t)
	}
}
