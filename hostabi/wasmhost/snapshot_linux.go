package wasmhost

import (
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// snapshot is a copy of a memory, in a file without a name: pages that nobody
// changes exist once.
type snapshot struct{ file *os.File }

const page = 4096

// takeSnapshot keeps b. Pages of zeros take no room.
func takeSnapshot(b []byte) (snapshot, error) {
	fd, err := unix.MemfdCreate("policy", unix.MFD_CLOEXEC)
	if err != nil {
		return snapshot{}, err
	}
	s := snapshot{os.NewFile(uintptr(fd), "policy")}
	if err := s.file.Truncate(int64(len(b))); err != nil {
		s.free()
		return snapshot{}, err
	}
	for off := 0; off < len(b); off += page {
		p := b[off:min(off+page, len(b))]
		if [page]byte(p) == [page]byte{} {
			continue
		}
		if _, err := s.file.WriteAt(p, int64(off)); err != nil {
			s.free()
			return snapshot{}, err
		}
	}
	return s, nil
}

// place puts the snapshot's size bytes at the beginning of b, which was mapped:
// it shares their pages until it writes to them.
func (s snapshot) place(b []byte, size int) error {
	_, err := unix.MmapPtr(int(s.file.Fd()), 0, unsafe.Pointer(unsafe.SliceData(b)), uintptr(size),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED)
	return err
}

// copy puts the snapshot into b.
func (s snapshot) copy(b []byte) error {
	_, err := s.file.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return err
}

func (s snapshot) free() { _ = s.file.Close() }
