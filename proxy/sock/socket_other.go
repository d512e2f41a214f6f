//go:build !linux

package sock

import (
	"errors"
	"net"

	"weir/proxy/poll"
)

// Socket is a TCP connection on a loop; there are loops on Linux.
type Socket struct{ *net.TCPConn }

// BindRead does nothing.
func (*Socket) BindRead(*poll.Task) {}

// BindWrite does nothing.
func (*Socket) BindWrite(*poll.Task) {}

func (*Socket) loop() int { return 0 }

func (*Socket) steps(int) {}

func (*Socket) onHangup(func()) (stop func()) { return func() {} }

// Dial reports that there are no loops.
func (Dialer) Dial(string) (*Socket, error) { return nil, errors.ErrUnsupported }

// Listener is a listening socket on loops.
type Listener struct{}

// Listen reports that there are no loops.
func Listen(*poll.Poller, *net.TCPListener, func(*Socket, func()), func(error) bool) (*Listener, error) {
	return nil, errors.ErrUnsupported
}

// Close does nothing.
func (*Listener) Close() error { return nil }
