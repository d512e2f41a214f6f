package poll

import (
	"runtime"
	"time"
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

// yieldEvery is less than the 10 ms after which sysmon preempts a goroutine.
const yieldEvery = 8 * time.Millisecond

// yield gives the scheduler a turn when that is due: a goroutine that has not
// been scheduled for long is signalled, has its P taken whenever sysmon finds it
// waiting, and keeps sysmon awake by that (docs/RATIONALE.md, "Why does a loop
// yield?").
func (w *worker) yield() {
	if now := time.Now(); now.Sub(w.yielded) >= yieldEvery {
		w.yielded = now
		runtime.Gosched()
		if !w.long { // who sends much is served best where the kernel puts it
			w.loop.places.apart(w.loop.n)
		}
		w.long = false
	}
}
