package sock

import (
	"math"

	"golang.org/x/sys/unix"
)

// acked returns how many bytes the peer's kernel has taken so far, and whether more
// wait for room at the peer; 0 and false: nobody knows.
func acked(fd int) (n uint64, unsent bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, false
	}
	return info.Bytes_acked, info.Notsent_bytes > 0 && info.State != unix.BPF_TCP_CLOSE
}

// unread returns how many bytes the kernel has that were not read.
func unread(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
	if err != nil {
		return math.MaxInt
	}
	return n
}
