//go:build unix && !linux

package http1

import (
	"syscall"

	"weir/proxy/fd"
)

// hungUp tells whether the peer of a socket has closed or reset it, as far as
// no bytes stand before the end.
func hungUp(s uintptr) bool {
	err := fd.Peek(s)
	return err != nil && err != syscall.EAGAIN
}
