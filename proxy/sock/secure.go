package sock

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"weir/proxy/fd"
	"weir/proxy/poll"
)

// maxAhead is what is encrypted before the kernel is asked to take it, in bytes
// of plaintext: some TLS records (RFC 8446 §5.1), so that a large write costs
// few calls. It bounds what is beyond recall when a peer stops reading.
const maxAhead = 32 << 10

const largestRecord = 16 << 10 // RFC 8446 §5.1

// maxOut is what may wait for the kernel, in bytes: what is ahead, as records, and
// answers to key updates, which a peer may ask for without end.
const maxOut = maxAhead + 8<<10

// What a client may send without a byte of plaintext: crypto/tls would hold a handshake
// message of 64 KiB for each, at any time.
const (
	maxHello = 8 << 10  // in a handshake; 2 KiB are usual
	maxHeard = 20 << 10 // behind it: the largest record (RFC 5246 §6.2.3), and key updates before it
)

// errHeard is a client that has sent more.
var errHeard = errors.New("sock: a TLS handshake message is too long")

// secure runs TLS over a connection. Behind the handshake crypto/tls writes to
// memory, and who writes to the connection sends that: a read that has a key update
// to answer (RFC 8446 §4.6.3) may be of another goroutine, and no deadline is for it.
// Once unblocked, reads go to the descriptor at hand instead of waiting.
//
// crypto/tls keeps its state across a read error that says it is temporary, so
// a read that would block can be tried again. It does not across a write
// error; therefore writes of the layer beneath never fail: what the kernel
// does not take stays in out.
type secure struct {
	conn *tls.Conn
	tcp  TCP
	ctl  func(func(uintptr)) error

	shaken    atomic.Bool               // Handshake has succeeded
	unshaken  atomic.Bool               // it has failed
	due       atomic.Pointer[time.Time] // when a handshake is to end; nil: at no time to come
	server    bool                      // the peer is a client
	computes  bool                      // its handshake has one of the places to compute at
	answered  bool                      // it has written
	clear     bool                      // what came first is no TLS: crypto/tls says so, and computes nothing
	heard     int                       // bytes from TCP since the handshake, or plaintext, came last
	fin       bool                      // TCP has ended, and no closure alert came before; until unblock
	dry       bool                      // exhausted asks: nothing more comes from TCP
	records   records
	begun     int // of them, since unblock; steps takes them off
	unblocked atomic.Bool
	readFD    uintptr // valid during read
	failed    error   // what more has found behind what it read

	mu  sync.Mutex
	out *ciphertext // not yet taken by the kernel; nil: none
	err error       // first write error, kept for the next flush

	taken  int // plaintext bytes of records that the kernel has, and write has not reported yet
	sealed int // records of data so far; largestRecord>>10-1 at most

	accepted int // plaintext bytes that are encrypted, and write has not reported yet
}

func newSecure(c *Conn, wrap func(net.Conn) *tls.Conn) *secure {
	s := &secure{tcp: c.tcp, ctl: c.raw.Control}
	s.conn = wrap((*beneath)(s))
	return s
}

func (s *secure) unblock() { s.unblocked.Store(true) }

// read decrypts what is there. fd is readable or not: it is tried.
func (s *secure) read(fd uintptr, p []byte) (int, error) {
	if s.failed != nil {
		return 0, s.failed
	}
	s.readFD = fd
	n, err := s.conn.Read(p)
	if n > 0 {
		s.heard = 0
		return n, nil
	}
	if err == nil {
		return 0, errWouldBlock
	}
	return 0, err
}

// mostRecords are those of one read: one with data, and 16 before it with none, which
// crypto/tls bears.
const mostRecords = 17

// steps is how many records the last read has taken, or a few more: nobody is told how many
// of those that have come it left for the next, but each counts once at least.
func (s *secure) steps() int {
	n := min(s.begun, mostRecords)
	s.begun -= n
	return max(n, 1)
}

// putOff gives a handshake whose deadline is seen late that time more, once: crypto/tls
// would not try it again. False: it is over.
func (s *secure) putOff() bool {
	due := s.due.Swap(nil)
	return due != nil && time.Since(*due) > poll.Late && s.tcp.SetDeadline(time.Now().Add(poll.Late)) == nil
}

// errUnshaken is what follows on the error of a handshake, which crypto/tls would tell
// again: a deadline that may be another by then.
var errUnshaken = errors.New("sock: the TLS handshake has failed")

func (s *secure) handshake(ctx context.Context) error {
	defer s.pause()
	return s.conn.HandshakeContext(ctx)
}

// computing are the places of the handshakes of clients that compute: one for each
// processor. A signature takes up to a millisecond, and each of a thousand at once would
// have all loops wait for Go's scheduler.
var computing = make(chan struct{}, runtime.GOMAXPROCS(0))

// compute waits for a place, as long as the handshake may last, which has it until it waits
// for its client again. For one that has left meanwhile nothing is computed.
func (s *secure) compute() error {
	if !s.server || s.shaken.Load() {
		return nil
	}
	var over <-chan time.Time
	if due := s.due.Load(); due != nil {
		t := time.NewTimer(time.Until(*due))
		defer t.Stop()
		over = t.C
	}
	select {
	case computing <- struct{}{}:
	case <-over:
		if !s.putOff() {
			return os.ErrDeadlineExceeded
		}
		computing <- struct{}{}
	}
	s.computes = true
	left := error(syscall.EAGAIN) // where nobody can look
	_ = s.ctl(func(d uintptr) { left = fd.Peek(d) })
	kind := s.records.head[0]
	switch {
	case left == syscall.EAGAIN, s.clear:
		return nil
	case left != io.EOF:
		return left
	case s.answered && kind != recordTypeChange && kind != recordTypeHandshake: // all that it has to say may be here
		return nil
	}
	return io.ErrUnexpectedEOF // crypto/tls takes io.EOF for an error behind what it looks for
}

const ( // RFC 8446 §5.1
	recordTypeChange    = 20
	recordTypeAlert     = 21
	recordTypeHandshake = 22
)

// pause gives the place back.
func (s *secure) pause() {
	if s.computes {
		s.computes = false
		<-computing
	}
}

// exhausted reports whether conn holds nothing that was read from TCP, decrypted or
// not. Nobody can look into it; but it can be asked for more.
func (s *secure) exhausted() bool {
	s.dry = true
	defer func() { s.dry = false }()
	var b [1]byte
	n, err := s.conn.Read(b[:])
	return n == 0 && err == errWouldBlock && s.failed == nil && s.records.whole()
}

// more reads what else is here: were each record a read of its own, a client that sends
// those of one byte could have a system call made for each byte that is passed on.
func (s *secure) more(p []byte) (n int) {
	s.dry = true
	defer func() { s.dry = false }()
	for len(p) > 0 && s.failed == nil {
		k, err := s.conn.Read(p)
		n, p = n+k, p[k:]
		if err == errWouldBlock { // behind k bytes, too: a piece of an alert is here
			break
		}
		s.failed = err
	}
	return n
}

// records follows the records of TLS as they are read from TCP, in pieces of any
// size (RFC 8446 §5.1).
type records struct {
	head [5]byte // of the next one: its type, a version, its length
	n    int     // bytes of head
	left int     // of the one begun
}

// follow returns how many begin in p.
func (r *records) follow(p []byte) (begun int) {
	for len(p) > 0 {
		k := min(r.left, len(p))
		r.left -= k
		p = p[k:]
		if r.left > 0 {
			return begun
		}
		k = copy(r.head[r.n:], p)
		r.n += k
		p = p[k:]
		if r.n == len(r.head) {
			r.n, r.left = 0, int(binary.BigEndian.Uint16(r.head[3:]))
			begun++
		}
	}
	return begun
}

// whole reports whether the last one is.
func (r *records) whole() bool { return r.n == 0 && r.left == 0 }

// writeAll encrypts p a stretch at a time and waits until TCP has taken it. Behind a
// deadline that has passed it can be called again with what is left of p.
func (s *secure) writeAll(p []byte) (int, error) { return s.encrypt(p, s.push) }

// write encrypts p a stretch at a time and pushes the ciphertext to fd.
func (s *secure) write(fd uintptr, p []byte) (int, error) {
	return s.encrypt(p, func() (int, error) { return s.flush(fd) })
}

// encrypt has send send p, encrypted a stretch at a time, until some is left. A record
// is reported when all of it is taken; until then p must begin with the same bytes.
func (s *secure) encrypt(p []byte, send func() (left int, err error)) (total int, err error) {
	for {
		left, err := send()
		sent := s.report(len(p))
		total += sent
		p = p[sent:]
		if err != nil || left > 0 || len(p) == 0 {
			return total, err
		}
		if err := s.ahead(p[:min(len(p), maxAhead)]); err != nil {
			return total, err
		}
	}
}

// report takes off what is taken and not reported yet, most at most.
func (s *secure) report(most int) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = min(s.taken, most)
	s.taken -= n
	s.accepted -= n
	return n
}

// ahead encrypts p a record at a time. The first are small, so that a page begins to
// show before much of it has come; those of crypto/tls, which grow in the same way, are
// no smaller.
func (s *secure) ahead(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), (s.sealed+1)<<10)
		if _, err := s.conn.Write(p[:n]); err != nil {
			return err
		}
		s.sealed = min(s.sealed+1, largestRecord>>10-1)
		s.accepted += n
		p = p[n:]
		s.note(n)
	}
	return nil
}

// note notes that the record with n bytes of data ends here.
func (s *secure) note(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == nil { // somebody who closes has sent it
		s.taken += n
		return
	}
	s.out.records = append(s.out.records, sealed{end: len(s.out.b), data: n})
}

// push waits until TCP has taken what was encrypted, or its deadline has passed: what
// is left goes first the next time.
func (s *secure) push() (left int, err error) {
	s.mu.Lock()
	out, err := s.out, s.err
	s.out = nil
	s.mu.Unlock()
	if out == nil || err != nil {
		return 0, err
	}
	n, err := s.tcp.Write(out.b[out.off:])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken += out.went(n)
	if err == nil {
		out.giveBack()
		return 0, nil
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		s.err = err
		return 0, err
	}
	if s.out != nil { // answers to key updates that came meanwhile, and what note had behind them
		for _, r := range s.out.records {
			out.records = append(out.records, sealed{end: len(out.b) + r.end, data: r.data})
		}
		out.b = append(out.b, s.out.b...)
		s.out.giveBack()
	}
	s.out = out
	return len(out.b) - out.off, err
}

// flush writes ciphertext and returns what is left. Its memory is given back
// when nothing is.
func (s *secure) flush(fd uintptr) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == nil {
		return 0, s.err
	}
	n, err := writeFD(fd, s.out.b[s.out.off:])
	s.taken += s.out.went(n)
	if err != nil && s.err == nil {
		s.err = err
	}
	left := len(s.out.b) - s.out.off
	if left == 0 {
		s.out.giveBack()
		s.out = nil
	}
	return left, s.err
}

// errFlood is a peer that asks for key updates and takes no answer.
var errFlood = errors.New("sock: more key updates were asked for than are kept")

// closeNotify sends the alert, as far as the kernel takes it.
func (s *secure) closeNotify() {
	_ = s.conn.CloseWrite()
	if s.unblocked.Load() {
		_ = s.ctl(func(fd uintptr) { _, _ = s.flush(fd) })
		return
	}
	_ = s.tcp.SetWriteDeadline(time.Now().Add(closeNotifyWait))
	_, _ = s.push()
}

// closeNotifyWait bounds a blocking close_notify toward a peer that does not
// read.
const closeNotifyWait = time.Second

// beneath is the net.Conn that crypto/tls sees.
type beneath secure

func (b *beneath) Read(p []byte) (int, error) {
	if b.server && (b.heard > maxHeard || b.heard > maxHello && !b.shaken.Load()) {
		return 0, errHeard
	}
	if b.unblocked.Load() {
		n, err := readFD(b.readFD, p)
		b.begun += b.records.follow(p[:n])
		b.heard += n
		return n, err
	}
	if b.dry {
		return 0, errWouldBlock
	}
	s := (*secure)(b)
	s.pause()
	n, err := b.tcp.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) && !b.shaken.Load() && s.putOff() {
		n, err = b.tcp.Read(p)
	}
	if b.heard == 0 && n > 0 {
		b.clear = p[0] != recordTypeAlert && p[0] != recordTypeHandshake
	}
	begun := b.records.follow(p[:n])
	if s, ok := b.tcp.(*Socket); ok {
		s.steps(begun - 1) // the read itself was one
	}
	b.heard += n
	b.fin = b.fin || err == io.EOF
	if err == nil {
		err = s.compute()
	}
	return n, err
}

func (b *beneath) Write(p []byte) (int, error) {
	if !b.shaken.Load() {
		b.answered = true
		(*secure)(b).pause()
		return b.tcp.Write(p)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	if b.out == nil {
		b.out = outs.Get().(*ciphertext)
	}
	o := b.out
	if len(o.b)+len(p) > maxOut { // what was taken goes, not only when all was
		o.shift()
	}
	if len(o.b)+len(p) > maxOut {
		b.err = errFlood
		return 0, b.err
	}
	o.b = append(o.b, p...)
	return len(p), nil
}

func (b *beneath) Close() error                      { return b.tcp.Close() }
func (b *beneath) LocalAddr() net.Addr               { return b.tcp.LocalAddr() }
func (b *beneath) RemoteAddr() net.Addr              { return b.tcp.RemoteAddr() }
func (b *beneath) SetDeadline(t time.Time) error     { return b.tcp.SetDeadline(t) }
func (b *beneath) SetReadDeadline(t time.Time) error { return b.tcp.SetReadDeadline(t) }

// SetWriteDeadline does nothing: crypto/tls would give a close_notify 5 s, and
// closeNotify gives it its own.
func (b *beneath) SetWriteDeadline(time.Time) error { return nil }

// errWouldBlock is a temporary net.Error, which crypto/tls does not keep.
var errWouldBlock net.Error = wouldBlock{}

type wouldBlock struct{}

func (wouldBlock) Error() string   { return "sock: would block" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

var _ io.ReadWriteCloser = (*beneath)(nil)
