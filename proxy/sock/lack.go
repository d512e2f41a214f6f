package sock

import (
	"errors"
	"net"
	"strings"
	"syscall"
)

// lacks are the errors of socket(2), connect(2) and open(2) that are no word of the
// other side, or about the file.
var lacks = [...]struct {
	errno syscall.Errno
	what  string
}{
	{syscall.EMFILE, "file descriptors (RLIMIT_NOFILE)"},
	{syscall.ENFILE, "file descriptors, as does the whole system"},
	{syscall.ENOBUFS, "memory in the kernel"},
	{syscall.ENOMEM, "memory in the kernel"},
}

// Lack says of what the process, or the machine, had too little where err comes of
// that; else "". Of a look-up package net keeps the text only.
func Lack(err error) (what string) {
	lookup, _ := errors.AsType[*net.DNSError](err)
	for _, l := range lacks {
		if errors.Is(err, l.errno) || lookup != nil && strings.HasSuffix(lookup.Err, l.errno.Error()) {
			return l.what
		}
	}
	return ""
}
