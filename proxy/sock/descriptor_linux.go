package sock

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// descriptor is a file descriptor that is closed when its last user lets it go:
// not while another goroutine is in a call on it, which could meet another
// socket of the same number.
type descriptor struct {
	fd   int
	uses atomic.Int64 // users, and closedBit
}

const closedBit = 1 << 32

func (d *descriptor) isClosed() bool { return d.uses.Load()&closedBit != 0 }

// acquire begins a use; false: it is closed.
func (d *descriptor) acquire() bool {
	for {
		n := d.uses.Load()
		if n&closedBit != 0 {
			return false
		}
		if d.uses.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (d *descriptor) release() {
	if d.uses.Add(-1) == closedBit {
		_ = unix.Close(d.fd)
	}
}

// close closes it, now or with its last use; false: it was closed before.
func (d *descriptor) close() bool {
	switch d.end() {
	case 0:
		_ = unix.Close(d.fd)
		return true
	case closedBit:
		return false
	}
	return true
}

// take is close, but that the descriptor stays open and is the caller's; -1: it
// was closed before. Nobody may use it.
func (d *descriptor) take() int {
	if d.end() != 0 {
		return -1
	}
	return d.fd
}

// end keeps new users away. It returns the uses there were; closedBit: it had
// ended before.
func (d *descriptor) end() int64 {
	for {
		n := d.uses.Load()
		if n&closedBit != 0 {
			return closedBit
		}
		if d.uses.CompareAndSwap(n, n|closedBit) {
			return n
		}
	}
}
