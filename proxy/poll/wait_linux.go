package poll

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// epollNow takes what is ready. It does not block, so the scheduler need not be
// told.
func epollNow(epfd int, raw []unix.EpollEvent) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(&raw[0])), uintptr(len(raw)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
