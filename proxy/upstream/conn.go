package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"weir/proxy/fd"
	"weir/proxy/http1"
	"weir/proxy/sock"
)

// conn is a connection to a target. It holds a reader only while in use.
type conn struct {
	nc         *sock.Conn
	raw        syscall.RawConn
	quiet      fd.Quiet      // raw, if it is one
	quick      *fd.Conn      // on a plain socket: deadlines are set when something has to wait; nil: TLS
	rw         io.ReadWriter // quick, or nc
	t          *target
	e          *Exchange // whose it is; nil while idle
	br         *bufio.Reader
	armed      time.Time     // read deadline on nc; zero: none
	writeArmed time.Time     // write deadline on nc; zero: none
	writeLimit time.Duration // of a write that waits; 0: none
	waited     bool          // the read under way has waited
	reused     bool
	kept       bool  // keepAlive was called
	bodiless   bool  // the last answer had no body; an upstream may have sent one nevertheless
	began      bool  // a byte of the present answer has come
	failed     error // of a read that AwaitBody made; nil: none
	idleSince  time.Time
	keep       time.Duration // while it may be idle

	look fd.Lookout // on a plain socket

	test func(fd uintptr) // bound once
	gone bool             // what test found
}

// readerSize holds the largest head of a response, and a body of 16 KiB with
// its head in one read.
const readerSize = 32 << 10

// maxHead is what the head of a response may have.
const maxHead = readerSize

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readerSize) }}

// cut closes c before its exchange is over, with a reset where the kernel has some of a
// request that it could not send so far: that would be kept for as long as the target
// does not read, counted nowhere, and the target not told.
func (c *conn) cut() {
	if _, unsent := c.nc.Acked(); unsent {
		_ = c.nc.Abort()
	}
	_ = c.nc.Close()
}

// keepAlive has the kernel find out when the target is gone: of a connection
// that something waits on for long. It is four system calls, and most exchanges
// do without.
func (c *conn) keepAlive() {
	if !c.kept {
		c.kept = true
		_ = c.nc.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true})
	}
}

// open tells whether an idle connection is still open and silent; it does not
// wait. When the request can be sent again (again), a connection that was in
// use a moment ago is not looked at where its loop would have told that something
// came; but for one whose last answer had no body, since a body that comes late
// would be taken for an answer.
func (c *conn) open(now time.Time, again bool) bool {
	idle := now.Sub(c.idleSince)
	if again && idle < trusted && !c.bodiless && c.quiet != nil && c.quiet.Dry() {
		return true
	}
	if idle >= c.keep {
		return false
	}
	c.gone = true
	err := c.raw.Control(c.test)
	return err == nil && !c.gone
}

// keepFor is how long the connection that resp came on may be idle: less than the
// upstream says that it keeps it (Keep-Alive, RFC 2068 §19.7.1.1), so that no request
// meets its end, and idleExpiry at most. Node's servers say 5 s.
func keepFor(resp *http1.Response) time.Duration {
	for part := range bytes.SplitSeq(resp.Get("keep-alive"), []byte{','}) {
		name, value, _ := bytes.Cut(http1.TrimOWS(part), []byte{'='})
		if !http1.EqualFold(name, "timeout") {
			continue
		}
		if seconds, err := strconv.ParseUint(string(bytes.Trim(value, `"`)), 10, 16); err == nil {
			keep := time.Duration(seconds) * time.Second
			return min(idleExpiry, keep-min(time.Second, keep/2))
		}
	}
	return idleExpiry
}

// testFD finds out whether there is something to read: the end, or bytes that
// nobody asked for. Either way the connection is of no more use.
func (c *conn) testFD(s uintptr) {
	c.gone = fd.Peek(s) != syscall.EAGAIN
}

// trusted is how long a kept connection is taken to be open without a look.
const trusted = 10 * time.Millisecond

// past is a deadline that is over.
var past = time.Unix(1, 0)

// Read implements io.Reader for br. A deadline that passes makes the exchange
// look at the clock; see Exchange.tick.
func (c *conn) Read(p []byte) (int, error) {
	if c.look.Reading() {
		n, err := c.look.Read(p)
		c.began = c.began || n > 0
		return n, err
	}
	if c.failed != nil {
		return 0, c.failed
	}
	c.waited = false
	if c.quick == nil {
		if err := c.beforeRead(); err != nil {
			return 0, err
		}
	}
	for {
		n, err := c.rw.Read(p)
		c.began = c.began || n > 0
		if err == io.EOF {
			err = c.end()
		}
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if err := c.again(); err != nil {
			return 0, err
		}
	}
}

// errNoAlert ends a body that ends with its connection, which is whole only when a
// closure alert says so (RFC 9112 §9.8).
var errNoAlert = fmt.Errorf("%w: the connection ended without a TLS close_notify", io.ErrUnexpectedEOF)

// end is what a read is told that has come to the end of the connection: a socket
// tells a reset once, and it may have been the sender that was told.
func (c *conn) end() error {
	if c.nc.Cut() {
		return errNoAlert
	}
	if e := c.e; e.gotHead && e.sender != nil {
		e.joinSender(true)
		if err := e.sender.lost; err != nil {
			return err
		}
	}
	return io.EOF
}

// again is called when a deadline has passed: nil, to go on. One that passed
// while nobody waited means nothing, and keeps what is here from being read: the
// next wait sets another.
func (c *conn) again() (err error) {
	now := time.Now()
	var due time.Time
	if c.waited {
		if due, err = c.e.tick(now); err != nil {
			return err
		}
	}
	c.armed = past
	return c.arm(due, now)
}

// ask writes the head of a request and waits for the first bytes of its answer.
// On plain TCP it holds no reader until they are there.
func (c *conn) ask(head []byte) (written int, err error) {
	for {
		c.waited = false
		n, err := c.look.Ask(head[written:])
		written += n
		switch {
		case err == nil && written == len(head):
			return written, nil
		case err == nil:
			n, err = c.rw.Write(head[written:])
			if written += n; err != nil {
				return written, err
			}
			continue
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return written, err
		}
		if err := c.again(); err != nil {
			return written, err
		}
	}
}

// Fill implements fd.Owner.
func (c *conn) Fill() error {
	c.takeReader()
	_, err := c.br.Peek(1)
	return err
}

// Drop implements fd.Owner.
func (c *conn) Drop() { c.dropReader() }

// BeforeWait implements fd.Owner.
func (c *conn) BeforeWait() error { return c.beforeRead() }

// beforeRead sets the deadline of a read that is about to wait.
func (c *conn) beforeRead() error {
	c.waited = true
	if c.e.gotHead {
		c.e.watchStream()
	}
	now := time.Now()
	return c.arm(c.e.due(now), now)
}

// beforeWrite sets the deadline of a write that is about to wait, once.
func (c *conn) beforeWrite() error {
	if c.writeLimit == 0 || !c.writeArmed.IsZero() {
		return nil
	}
	c.writeArmed = time.Now().Add(c.writeLimit)
	return c.nc.SetWriteDeadline(c.writeArmed)
}

// arm makes sure that a read returns at due, or earlier: a deadline that is
// armed already serves.
func (c *conn) arm(due, now time.Time) error {
	if c.armed.After(now) && (due.IsZero() || !c.armed.After(due)) || c.armed.IsZero() && due.IsZero() {
		return nil
	}
	c.armed = due
	return c.nc.SetReadDeadline(due)
}

// limitWrites bounds the writes to come. Zero: no bound. Where a wait cannot be
// seen, under TLS, the deadline is renewed only when less than limit is left.
func (c *conn) limitWrites(limit time.Duration) error {
	if c.quick != nil {
		if c.writeLimit = limit; c.writeArmed.IsZero() {
			return nil
		}
		c.writeArmed = time.Time{}
		return c.nc.SetWriteDeadline(time.Time{})
	}
	now := time.Now()
	switch {
	case limit == 0 && c.writeArmed.IsZero(), limit > 0 && c.writeArmed.Sub(now) >= limit:
		return nil
	case limit == 0:
		c.writeArmed = time.Time{}
	default:
		c.writeArmed = now.Add(limit + limit/2)
	}
	return c.nc.SetWriteDeadline(c.writeArmed)
}

func (c *conn) takeReader() {
	c.br = readers.Get().(*bufio.Reader)
	c.br.Reset(c)
}

func (c *conn) dropReader() {
	if c.br != nil {
		c.br.Reset(nil)
		readers.Put(c.br)
		c.br = nil
	}
}
