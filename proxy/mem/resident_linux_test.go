package mem

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// resident is how many pages of the blocks are in memory.
func resident(t *testing.T, blocks [][]byte) (n int) {
	t.Helper()
	var pages [BlockSize / 4096]byte
	for _, b := range blocks {
		if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&b[0])), BlockSize, uintptr(unsafe.Pointer(&pages[0]))); errno != 0 {
			t.Fatal(errno)
		}
		for _, p := range pages {
			n += int(p & 1)
		}
	}
	return n
}

// Free blocks beyond the few that are kept take no memory.
func TestPagesGoBack(t *testing.T) {
	var blocks [][]byte
	for range 3 * keep {
		b := Get()
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		blocks = append(blocks, b)
	}
	if n := resident(t, blocks); n != len(blocks)*BlockSize/4096 {
		t.Fatalf("%d pages are resident while in use", n)
	}
	for _, b := range blocks {
		Put(b)
	}
	if n := resident(t, blocks); n > keep*BlockSize/4096 {
		t.Errorf("%d pages are resident when free, want at most %d", n, keep*BlockSize/4096)
	}
}
