package mem

import (
	"os"

	"golang.org/x/sys/unix"
)

// whole tells whether a block is of whole pages. With pages of 64 KiB, which
// some arm64 systems have, it is not: to give back the one that a free block lies
// in would empty the three blocks beside it.
var whole = BlockSize%os.Getpagesize() == 0

// region appends the blocks of one more region to to. The address space of a
// region is kept for good, a thousandth of which is page tables; its pages are
// not.
func region(to [][]byte) [][]byte {
	r, err := unix.Mmap(-1, 0, regionSize*BlockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return append(to, make([]byte, BlockSize))
	}
	// A huge page would be resident whole for the sake of one block.
	_ = unix.Madvise(r, unix.MADV_NOHUGEPAGE)
	return cut(to, r)
}

// discard gives the pages of a free block back to the system.
func discard(b []byte) {
	if whole {
		_ = unix.Madvise(b, unix.MADV_DONTNEED)
	}
}
