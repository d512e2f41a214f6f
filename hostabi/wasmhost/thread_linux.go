package wasmhost

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadTime is how long the thread has run so far; 0: nobody knows.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
