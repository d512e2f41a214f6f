//go:build unix && !linux

package http1

import "syscall"

// hungUp tells whether the peer of a socket has closed or reset it, as far as
// no bytes stand before the end.
func hungUp(fd uintptr) bool {
	n, err := peek(fd)
	return n == 0 && err != syscall.EAGAIN
}
