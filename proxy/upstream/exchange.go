package upstream

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"weir/proxy/http1"
	"weir/proxy/poll"
	"weir/proxy/sock"
)

// watchAfter is how long an upstream may take before the client is watched, and
// the upstream too: quick answers cost neither.
const watchAfter = 100 * time.Millisecond

// lookAgain is how often it is asked whether an upstream goes on taking a body that
// the kernel holds for it.
const lookAgain = time.Second

// Exchange is an answer under way. It is not valid any more behind Finish.
type Exchange struct {
	Info http1.ResponseInfo
	Body *http1.BodyReader // nil: none
	URL  string            // the target's

	body     http1.BodyReader
	u        *Upstream
	from     *shelf  // whose inUse counts this exchange
	sender   *sender // nil: no body, or it went with the head
	watch    func(gone func()) (stop func())
	stop     func()    // of the watch; nil: none runs
	began    time.Time // when the wait for the answer did; zero: not yet
	timeout  time.Duration
	gotHead  bool
	bodyDue  time.Time // what AwaitBody waits until; zero: nothing does
	looped   bool      // a loop serves the client
	detached bool

	// What the upstream has taken of the body, as far as that was looked at.
	taken  time.Time // last time it took what had waited for it
	acked  uint64
	unsent bool // something waits for it in the kernel

	mu       sync.Mutex
	c        *conn
	dialing  func() // ends a dial that waits; nil: none does
	canceled bool
	bodyErr  error
}

var exchanges = sync.Pool{New: func() any { return new(Exchange) }}

func newExchange(u *Upstream, r *Request) *Exchange {
	e := exchanges.Get().(*Exchange)
	e.u, e.watch, e.timeout = u, r.Watch, r.Timeout
	if e.timeout <= 0 {
		e.timeout = u.responseTimeout
	}
	return e
}

// release gives e back: no Cancel can come any more, since its watch is joined.
func (e *Exchange) release() {
	*e = Exchange{body: e.body}
	exchanges.Put(e)
}

var errCanceled = errors.New("the client left")

// Cancel closes the connection, from any goroutine, so that reads fail at once.
// Whoever may call it is joined before Finish.
func (e *Exchange) Cancel() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.canceled = true
	if e.dialing != nil {
		e.dialing()
	}
	if e.c != nil {
		e.c.cut()
	}
}

// Canceled tells whether the exchange was ended by Cancel or by a client that
// left.
func (e *Exchange) Canceled() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.canceled
}

// BodyErr is what ended the request body early, nil while it flows or when it
// was sent whole.
func (e *Exchange) BodyErr() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.bodyErr
}

// failBody keeps why the request body ended early, and ends the exchange: the
// upstream must not take what it has for the whole.
func (e *Exchange) failBody(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.bodyErr = err
	if e.c != nil {
		e.c.cut()
	}
}

// attach makes c the connection of e, whose waits are those of who serves
// client; false: it was cancelled.
func (e *Exchange) attach(c *conn, client *sock.Conn) bool {
	t := taskOf(client)
	c.nc.Bind(t)
	e.looped = t != nil
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dialing = nil
	if e.canceled {
		_ = c.nc.Close()
		return false
	}
	e.c, c.e, c.began = c, e, false
	return true
}

// detachConn takes the connection away, so that no Cancel can reach it.
func (e *Exchange) detachConn() (c *conn, canceled bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, e.c = e.c, nil
	return c, e.canceled || e.bodyErr != nil
}

// due is when a read that begins now is to be looked at; zero: never.
func (e *Exchange) due(now time.Time) time.Time {
	due := e.limit(now)
	if t := now.Add(lookAgain); e.unsent && !e.gotHead && t.Before(due) {
		due = t
	}
	if e.watch != nil && e.stop == nil || e.gotHead && !e.c.kept {
		if t := now.Add(watchAfter); due.IsZero() || t.Before(due) {
			due = t
		}
	}
	return due
}

// limit is when the wait at hand is over; zero: never.
func (e *Exchange) limit(now time.Time) time.Time {
	if e.gotHead {
		return e.bodyDue
	}
	return e.headDue(now)
}

// headDue is when the response head is late: counted from the end of the
// request, or from the last progress of its body, the kernel's or the upstream's;
// while a client is slow to send, the upstream is not.
func (e *Exchange) headDue(now time.Time) time.Time {
	if e.began.IsZero() {
		e.began = now
	}
	from := e.began
	if e.sender != nil {
		if t, waiting := e.sender.progress(); waiting {
			from = now
		} else if t.After(from) {
			from = t
		}
	}
	if e.taken.After(from) {
		from = e.taken
	}
	return from.Add(e.timeout)
}

// look notes whether the upstream takes what the kernel holds of the body for it. That
// may be megabytes, which are gone for who writes them.
func (e *Exchange) look(now time.Time) {
	if e.sender == nil || e.gotHead {
		return
	}
	n, unsent := e.c.nc.Acked()
	if n != e.acked && e.unsent {
		e.taken = now
	}
	e.acked, e.unsent = n, unsent
}

// tick is called when a read waited until its due time: it returns the next,
// starts the watch if there is one to start, and looks itself where none can.
func (e *Exchange) tick(now time.Time) (time.Time, error) {
	e.look(now)
	if limit := e.limit(now); !limit.IsZero() && !limit.After(now) {
		if now.Sub(limit) <= poll.Late {
			return time.Time{}, os.ErrDeadlineExceeded
		}
		e.putOff(now)
	}
	e.startWatch()
	if e.gotHead { // until then there is response_timeout
		e.c.keepAlive()
	}
	if e.sender != nil && e.sender.abandoned(now) {
		e.Cancel()
		return time.Time{}, errCanceled
	}
	return e.due(now), nil
}

// putOff has the wait at hand, which is seen to be over late, be over in that time.
func (e *Exchange) putOff(now time.Time) {
	if e.gotHead {
		e.bodyDue = now.Add(poll.Late)
	} else {
		e.taken = now.Add(poll.Late - e.timeout)
	}
}

// watchStream has the client of a stream watched at the first wait, when a loop
// does that for nothing.
func (e *Exchange) watchStream() {
	if e.looped {
		e.startWatch()
	}
}

// startWatch has the client watched, unless its body is being read.
func (e *Exchange) startWatch() {
	if e.watch != nil && e.stop == nil && (e.sender == nil || e.sender.bodyRead.Load()) {
		e.stop = e.watch(e.Cancel)
	}
}

func (e *Exchange) stopWatch() {
	if e.stop != nil {
		e.stop()
		e.stop = nil
	}
}

// AwaitBody waits until data of the body is here, or its end, but not longer than limit.
func (e *Exchange) AwaitBody(limit time.Duration) {
	e.bodyDue = time.Now().Add(limit)
	for br := e.c.br; e.Body.Waits(); { // what is here may be the beginning of a chunk's head
		if _, err := br.Peek(br.Buffered() + 1); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				e.c.failed = err // for the read that follows: a socket tells a reset once
			}
			break
		}
	}
	e.bodyDue = time.Time{}
}

// Step is called while much of the body is computed on that one read brought, every so
// often (sock.Conn.Step).
func (e *Exchange) Step() { e.c.nc.Step() }

// Finish ends the exchange: it joins what runs for it and keeps the connection
// when clean is true and both bodies reached their end. After Detach it only
// says that the target has this connection no more.
func (e *Exchange) Finish(clean bool) {
	defer e.release()
	defer e.from.inUse.Add(-1)
	if e.detached {
		return
	}
	e.stopWatch()
	sent := e.joinSender(clean)
	c, canceled := e.detachConn()
	keep := clean && sent && !canceled && !e.Info.Close && (e.Body == nil || e.Body.Done()) && c.br.Buffered() == 0 && c.nc.Exhausted()
	c.dropReader()
	c.e = nil
	if keep {
		c.reused, c.bodiless = true, e.Info.NoBody
		c.t.put(c)
		return
	}
	_ = c.nc.Close()
}

// joinSender ends the sending of the body; true: it was sent whole.
func (e *Exchange) joinSender(clean bool) bool {
	s := e.sender
	if s == nil {
		return true
	}
	if clean && s.lastWrite.Load() {
		// The answer came at the very last bytes: let them go.
		_ = e.c.nc.SetWriteDeadline(time.Now().Add(time.Second))
		s.join()
		_ = e.c.nc.SetWriteDeadline(time.Time{})
		e.c.writeArmed = time.Time{}
		return s.sent
	}
	e.c.cut()
	s.end()
	return false
}

// Detach takes the connection of a 101 with a copy of the bytes behind its
// head (nil: none). Finish(false) is called when the tunnel has ended, so that
// the target is known to have one connection less; the tunnel closes it.
func (e *Exchange) Detach() (net.Conn, []byte) {
	e.watch = nil
	e.stopWatch()
	c, _ := e.detachConn()
	c.nc.Bind(nil)
	c.keepAlive()
	var buffered []byte
	if n := c.br.Buffered(); n > 0 {
		p, _ := c.br.Peek(n)
		buffered = bytes.Clone(p)
	}
	c.dropReader()
	e.detached = true
	_ = c.nc.SetDeadline(time.Time{})
	return c.nc, buffered
}
