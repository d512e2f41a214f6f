package fd

import (
	"os"
	"syscall"
)

// Conn reads and writes a socket as net.Conn does: it waits as long as the
// deadlines of the connection beneath allow. One goroutine reads and one
// writes.
//
// A deadline costs a look at the clock and a timer, and a timer may cost the
// wake-up of a thread. Most calls need not wait, so that deadlines are best set
// in what is called before a wait.
type Conn struct {
	raw    syscall.RawConn
	quiet  Quiet // raw, if it is one
	reads  op
	writes op

	read, write func(fd uintptr) bool // bound once, so that a call costs no closure
}

// Quiet is a RawConn that remembers that nothing is there to be read: its Read
// waits before it calls its function first, then.
type Quiet interface {
	syscall.RawConn
	// Drained is called in the function of a Read that got less than it had room
	// for: there was no more.
	Drained()
	// Dry tells that nothing came since: a Read that begins now may wait.
	Dry() bool
}

// op is what a call hands to the poller's callback and back.
type op struct {
	p   []byte
	n   int
	err error

	wait func() error // called before each wait; nil: nothing is
}

// New returns a Conn on the connection that raw belongs to. beforeRead and
// beforeWrite are called each time before a read or a write waits; an error
// ends the call with it. They may be nil.
func New(raw syscall.RawConn, beforeRead, beforeWrite func() error) *Conn {
	c := &Conn{raw: raw, reads: op{wait: beforeRead}, writes: op{wait: beforeWrite}}
	c.quiet, _ = raw.(Quiet)
	c.read, c.write = c.tryRead, c.tryWrite
	return c
}

// Read implements io.Reader.
func (c *Conn) Read(p []byte) (int, error) {
	o := &c.reads
	o.p, o.n, o.err = p, 0, nil
	if c.quiet != nil && c.quiet.Dry() && !o.waits() {
		return o.result("read", nil)
	}
	return o.result("read", c.raw.Read(c.read))
}

// Write implements io.Writer.
func (c *Conn) Write(p []byte) (int, error) {
	o := &c.writes
	o.p, o.n, o.err = p, 0, nil
	return o.result("write", c.raw.Write(c.write))
}

// result is what a call returns; waited is the poller's error.
func (o *op) result(call string, waited error) (int, error) {
	o.p = nil
	if errno, ok := o.err.(syscall.Errno); ok {
		return o.n, os.NewSyscallError(call, errno)
	}
	if o.err != nil {
		return o.n, o.err
	}
	return o.n, waited
}

// tryRead is the callback of Read; false waits until the socket is readable.
func (c *Conn) tryRead(fd uintptr) bool {
	o := &c.reads
	o.n, o.err = Read(fd, o.p)
	if c.quiet != nil && o.n > 0 && o.n < len(o.p) {
		c.quiet.Drained()
	}
	return o.err != syscall.EAGAIN || !o.waits()
}

// tryWrite is the callback of Write; false waits until the socket is writable.
func (c *Conn) tryWrite(fd uintptr) bool {
	o := &c.writes
	n, err := Write(fd, o.p[o.n:])
	o.n, o.err = o.n+n, err
	return err != syscall.EAGAIN || !o.waits()
}

// waits tells whether the call is to wait.
func (o *op) waits() bool {
	o.err = nil
	if o.wait != nil {
		o.err = o.wait()
	}
	return o.err == nil
}
