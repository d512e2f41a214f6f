package gateway

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
)

// Only an error of the listener itself ends the process.
func TestWhatPassesOfAcceptsErrors(t *testing.T) {
	for _, c := range []struct {
		err    error
		passes bool
	}{
		{syscall.EMFILE, true},
		{syscall.ECONNABORTED, true},
		{syscall.EPROTO, true}, // accept(2): of the connection that was to be accepted
		{syscall.ENETDOWN, true},
		{syscall.EPERM, true}, // a firewall's rule
		{syscall.EBADF, false},
		{syscall.ENOTSOCK, false},
		{syscall.EINVAL, false}, // nothing listens
		{net.ErrClosed, false},
		{errors.New("another"), false},
	} {
		wrapped := &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", c.err)}
		if got := passing(wrapped); got != c.passes {
			t.Errorf("%v passes: %v, want %v", c.err, got, c.passes)
		}
	}
}
