package main

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// callEarly makes the system calls that Weir else makes under load or in a reload
// first, so that a filter which ends the process for one (systemd's SystemCallFilter=)
// does that before anybody is served. They change nothing, and may be refused.
func callEarly() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var allowed unix.CPUSet
	if unix.SchedGetaffinity(0, &allowed) == nil {
		_ = unix.SchedSetaffinity(0, &allowed)
	}
	if raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil { // 20 - nice
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 20-raw)
	}
}
