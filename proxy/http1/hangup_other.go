//go:build unix && !linux

package http1

import "syscall"

// hungUp tells whether the peer of a socket has closed or reset it, as far as
// no bytes stand before the end.
func hungUp(fd uintptr) bool {
	var b [1]byte
	for {
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if err != syscall.EINTR {
			return n == 0 && err != syscall.EAGAIN
		}
	}
}
