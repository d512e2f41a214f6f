package http1

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"weir/proxy/fd"
	"weir/proxy/poll"
)

// conn is a client's connection between and during its exchanges. While it is
// idle on plain TCP it holds no buffer.
type conn struct {
	nc    net.Conn
	raw   syscall.RawConn // nil: not a socket
	plain bool            // raw is there and no TLS on it
	rw    io.ReadWriter   // nc, or what is quicker on a plain socket
	srv   *Server

	looped looped // nc, when it may be served by a task on a loop

	state    atomic.Uint32 // idle, active, ended
	unframed atomic.Bool   // an answer is under way that ends with the connection
	detached bool

	// Reading. A deadline on the socket is only a reason to look at the clock:
	// it is set when none is armed that comes early enough, not at each read,
	// and on a plain socket only when a read has to wait.
	br          *bufio.Reader // nil: not held
	since       time.Time     // when the present wait began; zero: it begins with its first read
	limit       time.Duration // of the wait; 0: none
	rolling     bool          // each read begins the wait anew
	armed       time.Time     // read deadline on nc; zero: none
	interrupted atomic.Bool
	look        fd.Lookout
	headSize    int // what the reader of the next head is to hold

	// Writing.
	writeLimit time.Duration
	idleLimit  time.Duration // of the exchange at hand, for the wait behind it; 0: the server's
	writeArmed time.Time     // write deadline on nc; zero: none
	writeSince time.Time     // since when the client has taken nothing, as far as was looked; zero: a write is to say
	acks       acks          // nc, if it can say; nil: only what the kernel takes is known
	acked      uint64        // when that was looked at last
}

// acks is a connection that knows how many bytes its peer has taken so far.
type acks interface {
	Acked() (n uint64, unsent bool)
}

// States of a conn. Who takes it from idle decides what becomes of it: its own
// loop to active, Drain to ended.
const (
	stateIdle uint32 = iota
	stateActive
	stateEnded
)

// past is a deadline that is over.
var past = time.Unix(1, 0)

// maxWrite is what one write may have, in bytes.
const maxWrite = 64 << 10

// readers are kept by size: what a head may have, rounded up to a power of two.
var readers [25]sync.Pool

// readerClass is the index of the pool whose readers hold n bytes; 8 KiB is
// the least, since a trailer must fit.
func readerClass(n int) int {
	class := 13
	for class < len(readers)-1 && 1<<class < n {
		class++
	}
	return class
}

func (c *conn) takeReader(size int) {
	class := readerClass(size)
	if c.br != nil {
		if c.br.Size() >= 1<<class || c.br.Buffered() > 0 {
			return // a larger one can wait until nothing is buffered
		}
		c.dropReader()
	}
	if br, _ := readers[class].Get().(*bufio.Reader); br != nil {
		br.Reset(c)
		c.br = br
		return
	}
	c.br = bufio.NewReaderSize(c, 1<<class)
}

func (c *conn) dropReader() {
	if c.br != nil {
		c.br.Reset(nil)
		readers[readerClass(c.br.Size())].Put(c.br)
		c.br = nil
	}
}

// wait sets what bounds the reads to come. The wait begins with the first of
// them that waits: most heads are here whole, and the clock is not asked.
func (c *conn) wait(limit time.Duration, rolling bool) {
	c.since, c.limit, c.rolling = time.Time{}, limit, rolling
}

// Read implements io.Reader under the bounds of wait.
func (c *conn) Read(p []byte) (int, error) {
	if c.look.Reading() {
		return c.look.Read(p)
	}
	if c.rolling {
		c.since = time.Time{}
	}
	for {
		if err := c.checkInterrupt(); err != nil {
			return 0, err
		}
		if !c.plain || c.armed == past {
			if err := c.arm(); err != nil {
				return 0, err
			}
		}
		n, err := c.rw.Read(p)
		if n > 0 || !isTimeout(err) {
			return n, err
		}
		c.armed = past
		if err := c.expired(); err != nil {
			return 0, err
		}
	}
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// expired tells what a passed deadline means: nil, to wait on, when it was
// armed for an earlier wait, or is seen late.
func (c *conn) expired() error {
	if c.interrupted.Load() {
		return ErrInterrupted
	}
	if c.limit == 0 || c.since.IsZero() {
		return nil
	}
	switch over := time.Since(c.since) - c.limit; {
	case over < 0:
		return nil
	case over > poll.Late:
		c.since = c.since.Add(over + poll.Late)
		return nil
	}
	return os.ErrDeadlineExceeded
}

// arm makes sure that a deadline on the socket is not later than the wait's
// end, and not over already.
func (c *conn) arm() error {
	if c.since.IsZero() {
		c.since = time.Now()
	}
	var due time.Time
	if c.limit > 0 {
		due = c.since.Add(c.limit)
	}
	if c.armed != past && (due.IsZero() || !c.armed.IsZero() && !c.armed.After(due)) {
		return c.checkInterrupt()
	}
	c.armed = due
	if err := c.nc.SetReadDeadline(due); err != nil {
		return err
	}
	// An interrupt between the last look and SetReadDeadline is not lost.
	return c.checkInterrupt()
}

func (c *conn) checkInterrupt() error {
	if c.interrupted.Load() {
		return ErrInterrupted
	}
	return nil
}

// interrupt ends a Read from any goroutine, and those to come.
func (c *conn) interrupt() {
	c.interrupted.Store(true)
	_ = c.nc.SetReadDeadline(past)
}

// resume allows reads again after interrupt.
func (c *conn) resume() {
	if c.interrupted.Load() {
		c.interrupted.Store(false)
		c.armed = past
	}
}

// write sends p in pieces, and before it what waits of TLS, as long as the client takes
// some of it every writeLimit. One that does not is reset: the kernel would keep what it
// has for it for minutes.
func (c *conn) write(p []byte) error {
	for {
		if !c.plain { // no wait can be seen
			if err := c.armWrite(); err != nil {
				return err
			}
		}
		n, err := c.rw.Write(p[:min(len(p), maxWrite)])
		p = p[n:]
		switch {
		case err == nil:
			err = c.wrote()
			if err == nil && len(p) == 0 {
				return nil
			}
		case !isTimeout(err):
		case c.stalled(n):
			reset(c.nc)
		default:
			c.writeArmed = time.Time{}
			err = c.armWrite()
		}
		if err != nil {
			return err
		}
	}
}

// armWrite sees to it that a write that waits is looked at, four times in writeLimit.
// On a plain socket it is called when one is about to wait; else before each, and a
// deadline that is near does for the next.
func (c *conn) armWrite() error {
	if c.writeLimit <= 0 || c.plain && !c.writeArmed.IsZero() {
		return nil
	}
	now, step := time.Now(), c.writeLimit/4
	first := c.writeSince.IsZero()
	if first {
		c.writeSince = now
	}
	if left := c.writeArmed.Sub(now); left > step/2 && left <= step { // else it is of a longer writeLimit
		return nil
	}
	if first && c.acks != nil {
		c.acked, _ = c.acks.Acked()
	}
	c.writeArmed = now.Add(step)
	return c.nc.SetWriteDeadline(c.writeArmed)
}

// stalled tells, of a write that waited until it was to be looked at and had n bytes
// taken, whether the client has taken nothing for writeLimit. The kernel, which may
// hold megabytes for it, takes more only when a third of them are gone.
func (c *conn) stalled(n int) bool {
	now, moved := time.Now(), n > 0
	if c.acks != nil {
		acked, _ := c.acks.Acked()
		moved = moved || acked != c.acked
		c.acked = acked
	}
	if moved {
		c.writeSince = now
	}
	return now.Sub(c.writeSince) >= c.writeLimit
}

// wrote ends the wait of a write, if it did. No deadline is left on a plain socket.
func (c *conn) wrote() error {
	c.writeSince = time.Time{}
	if !c.plain || c.writeArmed.IsZero() {
		return nil
	}
	c.writeArmed = time.Time{}
	return c.nc.SetWriteDeadline(time.Time{})
}
