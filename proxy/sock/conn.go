// Package sock gives TCP and TLS connections one face: a net.Conn for the
// handshake, and for the tunnel that follows reads that park without holding a
// buffer and writes that never block.
package sock

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"syscall"
	"time"

	"weir/proxy/fd"
	"weir/proxy/poll"
)

// Buffer lends memory to Conn.ReadTo.
type Buffer interface {
	// Space returns where the next bytes go; it is never empty.
	Space() []byte
	// Idle is called before the reader parks: what is empty can be given back.
	Idle()
}

// TCP is what a Conn is made of: a *net.TCPConn, or a *Socket.
type TCP interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
	SetLinger(seconds int) error
	SetKeepAliveConfig(net.KeepAliveConfig) error
}

// Conn is a TCP connection, with TLS on it or not.
//
// As a net.Conn it blocks and may be used by one reader and one writer.
// ReadTo, TryWrite and Drain are for after Unblock; TryWrite and Drain must be
// serialised by the caller.
type Conn struct {
	tcp  TCP
	raw  syscall.RawConn
	tls  *secure    // nil on plain TCP
	task *poll.Task // of Bind

	unshaken func(error) // of OnHandshakeError; nil: nobody asks

	reader reader
	writer writer
}

// reader holds what ReadTo passes to its callback, so that a wait costs no
// closure.
type reader struct {
	call func(fd uintptr) bool
	buf  Buffer
	n    int
	err  error
}

// writer is the same for TryWrite and Drain.
type writer struct {
	try  func(fd uintptr)
	wait func(fd uintptr) bool
	p    []byte
	n    int
	err  error
	more func() bool
}

// Wrap puts a plain TCP connection behind a Conn.
func Wrap(tcp TCP) *Conn {
	raw, err := tcp.SyscallConn()
	if err != nil {
		raw = brokenConn{err}
	}
	c := &Conn{tcp: tcp, raw: raw}
	c.reader.call = c.readable
	c.writer.try = c.write
	c.writer.wait = c.writable
	return c
}

// Server is Wrap with TLS, this side being the server. The handshake runs at
// the first Read or Write, or in Handshake.
func Server(tcp TCP, cfg *tls.Config) *Conn {
	c := Wrap(tcp)
	c.tls = newSecure(c, func(nc net.Conn) *tls.Conn { return tls.Server(nc, cfg) })
	c.tls.server = true
	return c
}

// Client is Wrap with TLS, this side being the client.
func Client(tcp TCP, cfg *tls.Config) *Conn {
	c := Wrap(tcp)
	c.tls = newSecure(c, func(nc net.Conn) *tls.Conn { return tls.Client(nc, cfg) })
	return c
}

// Handshake runs the TLS handshake; on plain TCP it does nothing. Its
// arithmetic takes as long as thousands of messages: a task leaves its loop for
// it.
func (c *Conn) Handshake(ctx context.Context) error {
	if c.tls == nil {
		return nil
	}
	if c.tls.unshaken.Load() {
		return errUnshaken
	}
	if t := c.task; t != nil {
		c.Bind(nil)
		defer c.Bind(t)
		t.Leave()
	}
	err := c.tls.handshake(ctx)
	if err == nil {
		_ = c.tcp.SetWriteDeadline(time.Time{})
		c.tls.heard = 0
		c.tls.shaken.Store(true)
		return nil
	}
	c.tls.unshaken.Store(true)
	if c.unshaken != nil {
		c.unshaken(err)
	}
	return err
}

// OnHandshakeError has failed called with the error of a TLS handshake that
// fails, before whoever waits for it has it. The connection is still open then
// and may be used in clear, blocking.
func (c *Conn) OnHandshakeError(failed func(error)) { c.unshaken = failed }

// Heard tells, in a call of OnHandshakeError, whether the peer has sent anything.
func (c *Conn) Heard() bool { return c.tls.heard > 0 }

// Clear is the connection beneath TLS.
func (c *Conn) Clear() TCP { return c.tcp }

// Bind says whose reads and writes these are from now on: those of a task,
// which gives its loop back when it waits, or, with nil, those of goroutines.
// It is for a Conn on a Socket, does nothing to others, and nothing may be
// waiting.
func (c *Conn) Bind(t *poll.Task) {
	c.task = t
	c.BindRead(t)
	c.BindWrite(t)
}

// BindRead is Bind for reads only.
func (c *Conn) BindRead(t *poll.Task) {
	if s, ok := c.tcp.(*Socket); ok {
		s.BindRead(t)
	}
}

// BindWrite is Bind for writes only.
func (c *Conn) BindWrite(t *poll.Task) {
	if s, ok := c.tcp.(*Socket); ok {
		s.BindWrite(t)
	}
}

// Task is what Bind said last.
func (c *Conn) Task() *poll.Task { return c.task }

// Sock returns c itself: what embeds a Conn can be asked for it.
func (c *Conn) Sock() *Conn { return c }

// Step tells the task that reads, if one does, that it has computed for as long as a read
// takes: after many of them its loop does other work first.
func (c *Conn) Step() {
	if s, ok := c.tcp.(*Socket); ok {
		s.steps(1)
	}
}

// Loop is the number of the loop that c is on, from 0; 0 when it is on none.
func (c *Conn) Loop() int {
	if s, ok := c.tcp.(*Socket); ok {
		return s.loop()
	}
	return 0
}

// OnHangup has gone called once, by a loop, when the other side ends its
// sending or is gone; at once if it is. It must not wait. stop takes that back,
// and joins a call under way. ok is false when there is no loop to call.
func (c *Conn) OnHangup(gone func()) (stop func(), ok bool) {
	s, ok := c.tcp.(*Socket)
	if !ok {
		return nil, false
	}
	return s.onHangup(gone), true
}

// SetKeepAliveConfig is net.TCPConn's.
func (c *Conn) SetKeepAliveConfig(k net.KeepAliveConfig) error { return c.tcp.SetKeepAliveConfig(k) }

// TLS returns the state of the TLS connection; nil on plain TCP.
func (c *Conn) TLS() *tls.ConnectionState {
	if c.tls == nil {
		return nil
	}
	s := c.tls.conn.ConnectionState()
	return &s
}

// Encrypted tells whether there is TLS on the connection.
func (c *Conn) Encrypted() bool { return c.tls != nil }

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if c.tls == nil {
		return c.tcp.Read(p)
	}
	if !c.tls.shaken.Load() {
		if err := c.Handshake(context.Background()); err != nil {
			return 0, err
		}
	}
	if c.tls.failed != nil {
		return 0, c.tls.failed
	}
	n, err := c.tls.conn.Read(p)
	if n > 0 { // an end will be told again; a deadline that passed behind n is none of theirs
		c.tls.heard = 0
		return n + c.tls.more(p[n:]), nil
	}
	return n, err
}

// Cut tells, when Read has returned io.EOF, whether that is the end of TCP without
// the closure alert that TLS ends with (RFC 8446 §6.1): anyone on the way can bring
// it about, and crypto/tls does not tell the two apart.
func (c *Conn) Cut() bool { return c.tls != nil && c.tls.fin }

// Exhausted tells whether Read has returned all that it took from the socket: with
// TLS it takes more than it returns. It does not wait.
func (c *Conn) Exhausted() bool { return c.tls == nil || c.tls.exhausted() }

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	if c.tls == nil {
		return c.tcp.Write(p)
	}
	if !c.tls.shaken.Load() {
		if err := c.Handshake(context.Background()); err != nil {
			return 0, err
		}
	}
	return c.tls.writeAll(p)
}

// Close implements net.Conn. It sends no TLS close_notify; CloseWrite does.
func (c *Conn) Close() error { return c.tcp.Close() }

// EndTLS has the next Write send the close_notify of TLS first, which may be one of
// nothing; false: there is no TLS that could end.
func (c *Conn) EndTLS() bool {
	return c.tls != nil && c.tls.shaken.Load() && c.tls.conn.CloseWrite() == nil
}

// CloseWrite ends the writing side: TLS close_notify where there is TLS, then
// FIN.
func (c *Conn) CloseWrite() error {
	if c.tls != nil {
		c.tls.closeNotify()
	}
	return c.tcp.CloseWrite()
}

// Abort closes the connection with a reset, so that the peer cannot take what
// it has for the whole.
func (c *Conn) Abort() error {
	_ = c.tcp.SetLinger(0)
	return c.tcp.Close()
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.tcp.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.tcp.RemoteAddr() }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.tcp.SetDeadline(t) }

// SetReadDeadline implements net.Conn; it also ends a ReadTo that waits. A read that
// shakes hands writes too, and has no longer for that.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.tls != nil && !c.tls.shaken.Load() {
		c.tls.due.Store(nil)
		if t.After(time.Now()) {
			c.tls.due.Store(&t)
		}
		return c.tcp.SetDeadline(t)
	}
	return c.tcp.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn; it also ends a Drain that waits.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.tcp.SetWriteDeadline(t) }

// SyscallConn implements syscall.Conn on the TCP connection beneath.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// Unblock ends the life as a net.Conn and begins the one as a tunnel leg:
// deadlines are cleared and TLS records go through memory from here on.
func (c *Conn) Unblock() error {
	if c.tls != nil {
		c.tls.unblock()
	}
	return c.tcp.SetDeadline(time.Time{})
}

// ReadTo waits for bytes and reads once into what b lends; it holds no buffer
// while it waits. It returns io.EOF at the end, os.ErrDeadlineExceeded when a
// read deadline passes.
func (c *Conn) ReadTo(b Buffer) (int, error) {
	r := &c.reader
	r.buf, r.n, r.err = b, 0, nil
	err := c.raw.Read(r.call)
	r.buf = nil
	if r.n > 0 {
		return r.n, nil
	}
	if r.err != nil {
		return 0, r.err
	}
	return 0, waitError(err)
}

// readable is the callback of ReadTo; false parks until the next readiness.
// The attempt comes first always: prepareRead forgets an edge that came before.
func (c *Conn) readable(fd uintptr) bool {
	r := &c.reader
	p := r.buf.Space()
	if c.tls != nil {
		r.n, r.err = c.tls.read(fd, p)
	} else {
		r.n, r.err = readFD(fd, p)
	}
	if r.err == errWouldBlock {
		r.err = nil
		r.buf.Idle()
		return false
	}
	return true
}

// TryWrite writes what the kernel takes at once: n < len(p) with a nil error
// means that the rest has to wait for Drain. With TLS the bytes of records that
// are still on their way are not in n; the Pending bytes behind n must be
// offered again unchanged, at once or in portions.
func (c *Conn) TryWrite(p []byte) (int, error) {
	w := &c.writer
	w.p, w.n, w.err = p, 0, nil
	err := c.raw.Control(w.try)
	w.p = nil
	if w.err != nil {
		return w.n, w.err
	}
	return w.n, err
}

func (c *Conn) write(fd uintptr) {
	w := &c.writer
	if c.tls != nil {
		w.n, w.err = c.tls.write(fd, w.p)
	} else {
		w.n, w.err = writeFD(fd, w.p)
	}
}

// Pending is the number of bytes behind what TryWrite has reported as written
// that are already encrypted and can be recalled no more.
func (c *Conn) Pending() int {
	if c.tls == nil {
		return 0
	}
	return c.tls.accepted
}

// Acked returns how many bytes the peer has taken so far, and whether the kernel holds
// others that it could not send yet, since the peer's buffers are full or the way to it;
// as far as is known. The first grow while a peer reads slowly, though the kernel takes
// more of ours in long strides only.
func (c *Conn) Acked() (n uint64, unsent bool) {
	_ = c.raw.Control(func(fd uintptr) { n, unsent = acked(int(fd)) }) //nolint:gosec // a descriptor
	return n, unsent
}

// Unread returns how many bytes have come that no read has taken, as far as is known:
// math.MaxInt over TLS.
func (c *Conn) Unread() (n int) {
	if c.tls != nil {
		return math.MaxInt
	}
	_ = c.raw.Control(func(fd uintptr) { n = unread(int(fd)) }) //nolint:gosec // a descriptor
	return n
}

// Drain calls more each time the kernel may take bytes again, until it returns
// true. more uses TryWrite. Drain returns os.ErrDeadlineExceeded when a write
// deadline passes.
func (c *Conn) Drain(more func() bool) error {
	w := &c.writer
	w.more = more
	return waitError(c.raw.Write(w.wait))
}

func (c *Conn) writable(uintptr) bool { return c.writer.more() }

// waitError names the end of a wait on the poller.
func waitError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case errors.Is(err, net.ErrClosed):
		return net.ErrClosed
	}
	return err
}

// readFD reads once; at the end of the stream it returns io.EOF.
func readFD(d uintptr, p []byte) (int, error) {
	n, err := fd.Read(d, p)
	switch {
	case n > 0:
		return n, nil
	case err == nil || err == io.EOF:
		return 0, io.EOF
	case err == syscall.EAGAIN:
		return 0, errWouldBlock
	}
	return 0, os.NewSyscallError("read", err)
}

// writeFD writes until everything is taken or the kernel takes no more.
func writeFD(d uintptr, p []byte) (int, error) {
	n, err := fd.Write(d, p)
	if err == nil || err == syscall.EAGAIN {
		return n, nil
	}
	return n, os.NewSyscallError("write", err)
}

// brokenConn stands for the raw side of a connection that was closed already.
type brokenConn struct{ err error }

func (b brokenConn) Control(func(uintptr)) error    { return b.err }
func (b brokenConn) Read(func(uintptr) bool) error  { return b.err }
func (b brokenConn) Write(func(uintptr) bool) error { return b.err }
