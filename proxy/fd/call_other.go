//go:build unix && (!linux || race)

package fd

// The calls of package syscall tell the race detector that what is read was
// written before.

import "syscall"

func read(fd uintptr, p []byte) (int, error) { return syscall.Read(int(fd), p) }

func write(fd uintptr, p []byte) (int, error) { return syscall.Write(int(fd), p) }
