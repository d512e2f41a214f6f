//go:build unix

package gateway

import "golang.org/x/sys/unix"

// fileLimit is how many files the process may have open: the soft limit, which
// package os has raised to the hard one.
func fileLimit() (n uint64, ok bool) {
	var l unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	return uint64(l.Cur), err == nil
}
