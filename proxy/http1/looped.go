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

func (c *conn) leave() {
	if c.looped == nil {
		return
	}
	if t := c.looped.Task(); t != nil {
		t.Leave()
	}
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
