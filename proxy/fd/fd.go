// Package fd reads and writes sockets by system calls that the scheduler is not
// told of.
//
// A socket of Go's is non-blocking: read and write return at once, and who has
// to wait parks in the poller. The calls of package syscall nevertheless tell
// the scheduler that the thread may block. A call that happens to take longer
// than a tick of sysmon (20 µs; on a busy machine one that was preempted in the
// kernel) then loses its P to another thread, which has to be woken, and sysmon
// keeps looking every 20 µs instead of every 10 ms. Where it takes four calls
// to carry an exchange, that is a tenth of the whole cost.
package fd

import (
	"io"
	"syscall"
)

// Read reads once: syscall.EAGAIN when nothing is there, io.EOF at the end.
func Read(fd uintptr, p []byte) (int, error) {
	for {
		n, err := read(fd, p)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, err
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// Peek looks what Read would find, and leaves it there: nil for bytes, otherwise Read's
// error.
func Peek(fd uintptr) error {
	var b [1]byte
	for {
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case err == syscall.EINTR:
		case err == nil && n == 0:
			return io.EOF
		default:
			return err
		}
	}
}

// Write writes until all of p is taken: syscall.EAGAIN, with what was, when the
// kernel takes no more now.
func Write(fd uintptr, p []byte) (int, error) {
	total := 0
	for total < len(p) {
		n, err := write(fd, p[total:])
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return total, err
		default:
			total += n
		}
	}
	return total, nil
}
