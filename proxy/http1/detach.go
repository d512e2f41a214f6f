package http1

import (
	"bytes"
	"net"
	"time"
)

// Detach takes the connection out of the server, after a 101 was flushed, with
// a copy of the bytes that the client sent behind its head (nil: none). The
// Exchange must not be used any more, not even read.
func (x *Exchange) Detach() (c net.Conn, buffered []byte) {
	owner := x.c
	if owner.br != nil && owner.br.Buffered() > 0 {
		p, _ := owner.br.Peek(owner.br.Buffered())
		buffered = bytes.Clone(p)
	}
	owner.detached = true
	owner.state.Store(stateEnded)
	owner.dropReader()
	_ = owner.nc.SetDeadline(time.Time{})
	x.release()
	return owner.nc, buffered
}
