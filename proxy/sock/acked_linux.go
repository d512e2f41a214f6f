package sock

import "golang.org/x/sys/unix"

// acked returns how many bytes the peer's kernel has taken so far; 0: nobody knows.
func acked(fd int) uint64 {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return info.Bytes_acked
}

// unsent returns how many bytes wait for room at the peer; 0: nobody knows.
func unsent(fd int) uint32 {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return info.Notsent_bytes
}
