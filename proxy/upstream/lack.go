package upstream

import (
	"errors"
	"net"
	"strings"
	"syscall"
)

// lackError is a connection that could not be made for want of what Weir needs
// itself: it says nothing about the target.
type lackError struct {
	what string
	err  error
}

func (e *lackError) Error() string { return "weir lacks " + e.what + ": " + e.err.Error() }
func (e *lackError) Unwrap() error { return e.err }

// lacks are the errors of socket(2) and connect(2) that are no word of the other side.
var lacks = [...]struct {
	errno syscall.Errno
	what  string
}{
	{syscall.EMFILE, "file descriptors (RLIMIT_NOFILE)"},
	{syscall.ENFILE, "file descriptors, as does the whole system"},
	{syscall.ENOBUFS, "memory for sockets"},
	{syscall.ENOMEM, "memory for sockets"},
}

// lackOf returns err as a *lackError if it is one; else nil. Of a look-up package net
// keeps the text only.
func lackOf(err error) *lackError {
	lookup, _ := errors.AsType[*net.DNSError](err)
	for _, l := range lacks {
		if errors.Is(err, l.errno) || lookup != nil && strings.HasSuffix(lookup.Err, l.errno.Error()) {
			return &lackError{l.what, err}
		}
	}
	return nil
}
