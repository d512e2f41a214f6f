package fd

import (
	"os"
	"syscall"
)

// Lookout waits for the first bytes of a message, and has a buffer taken for
// them only when they are there: who waits for many peers needs no more buffers
// than peers that have said something, and what is read lies in a buffer that
// the processor has in its cache.
//
// One goroutine uses it; Init comes first.
type Lookout struct {
	raw   syscall.RawConn
	quiet Quiet // raw, if it is one
	owner Owner

	call func(fd uintptr) bool // bound once, so that a wait costs no closure
	ask  func(fd uintptr)

	question []byte  // to be written before the first look
	written  int     // of it
	fd       uintptr // read from by Read, while reading
	reading  bool
	err      error
}

// Owner is whom a Lookout waits for.
type Owner interface {
	// Fill takes a buffer and reads once into it, by Lookout.Read.
	Fill() error
	// Drop gives the buffer back, into which nothing came.
	Drop()
	// BeforeWait is called each time before a wait; an error ends it.
	BeforeWait() error
}

// Init makes l look out on the connection that raw belongs to.
func (l *Lookout) Init(raw syscall.RawConn, owner Owner) {
	l.raw, l.owner, l.call, l.ask = raw, owner, l.look, l.write
	l.quiet, _ = raw.(Quiet)
}

// Await waits until there is something to read, as long as the connection's read
// deadline allows, and has Fill read it. The error is Fill's, BeforeWait's or the
// poller's.
func (l *Lookout) Await() error {
	_, err := l.Ask(nil)
	return err
}

// Ask writes question before it does what Await does, and does not look before
// it has waited: what is asked for cannot be there yet. When the kernel takes
// only some of question it does not wait; written is what it took. Only for when
// nothing is there to be read but the answer: bytes or an end that came before
// may not be noticed until the read deadline.
func (l *Lookout) Ask(question []byte) (written int, err error) {
	l.question, l.written, l.err = question, 0, nil
	if l.quiet != nil {
		err = l.askQuiet()
	} else {
		err = l.raw.Read(l.call)
	}
	l.question = nil
	if err == nil {
		err = l.err
	}
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError("ask", errno)
	}
	return l.written, err
}

// askQuiet is Ask where a read waits by itself when nothing can be there, and
// misses nothing that came before.
func (l *Lookout) askQuiet() error {
	if len(l.question) > 0 {
		if err := l.quiet.Control(l.ask); err != nil {
			return err
		}
		if l.err != nil || l.written < len(l.question) {
			return nil
		}
	}
	if l.quiet.Dry() {
		if err := l.owner.BeforeWait(); err != nil {
			return err
		}
	}
	l.question = nil
	return l.raw.Read(l.call)
}

// write writes the question, or what the kernel takes of it.
func (l *Lookout) write(fd uintptr) {
	if l.written, l.err = Write(fd, l.question); l.err == syscall.EAGAIN {
		l.err = nil
	}
}

// look is the poller's callback; false waits until the socket is readable. The
// poller forgets what happened before it is called first, and nothing after: an
// answer to what is written here is not missed.
func (l *Lookout) look(fd uintptr) bool {
	if len(l.question) > l.written {
		l.write(fd)
		return l.err != nil || l.written < len(l.question) || !l.waits()
	}
	l.fd, l.reading = fd, true
	l.err = l.owner.Fill()
	l.reading = false
	if l.err != syscall.EAGAIN {
		return true
	}
	l.owner.Drop()
	return !l.waits()
}

// waits tells whether to wait.
func (l *Lookout) waits() bool {
	l.err = l.owner.BeforeWait()
	return l.err == nil
}

// Reading tells whether Fill is under way: what reads for it reads by Read.
func (l *Lookout) Reading() bool { return l.reading }

// Read reads once, without waiting.
func (l *Lookout) Read(p []byte) (int, error) {
	n, err := Read(l.fd, p)
	if l.quiet != nil && n > 0 && n < len(p) {
		l.quiet.Drained()
	}
	return n, err
}
