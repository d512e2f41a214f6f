package wasmhost

import (
	"runtime"

	"golang.org/x/sys/unix"
)

const (
	backgroundNice = 10 // more than the process has: a tenth of the processor that others want
	maxNice        = 19
)

// inBackground runs f on a thread of a lower priority, and returns when it has
// (docs/RATIONALE.md, "What does replacing a policy cost those who are served?").
func inBackground(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread ends with the goroutine, which keeps it: who has given priority
		// up must not take it back without a privilege.
		runtime.LockOSThread()
		if raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil { // of this thread; 20 - nice
			_ = unix.Setpriority(unix.PRIO_PROCESS, 0, min(20-raw+backgroundNice, maxNice))
		}
		f()
	}()
	<-done
}
