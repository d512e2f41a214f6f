package wasmhost

import (
	"errors"
	"io"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// snapshot is a copy of a memory, in a file without a name: pages that nobody
// changes exist once. Where there can be no such file it is a copy like any other.
type snapshot struct {
	file *os.File
	b    []byte
}

const page = 4096 // bytes; of zeros it takes no room in the file

func takeSnapshot(b []byte) snapshot {
	if file, err := writeSnapshot(b); err == nil {
		return snapshot{file: file}
	}
	return snapshot{b: slices.Clone(b)}
}

func writeSnapshot(b []byte) (_ *os.File, err error) {
	fd, err := unix.MemfdCreate("policy", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "policy")
	defer func() {
		if err != nil {
			_ = file.Close()
		}
	}()
	if err := file.Truncate(int64(len(b))); err != nil {
		return nil, err
	}
	for off := 0; off < len(b); off += page { // whole pages: a memory is of 64 KiB ones
		p := b[off : off+page]
		if [page]byte(p) == [page]byte{} {
			continue
		}
		if _, err := file.WriteAt(p, int64(off)); err != nil {
			return nil, err
		}
	}
	return file, nil
}

// place puts the snapshot's size bytes at the beginning of b, which was mapped:
// it shares their pages until it writes to them.
func (s snapshot) place(b []byte, size int) error {
	if s.file == nil {
		return errors.ErrUnsupported
	}
	_, err := unix.MmapPtr(int(s.file.Fd()), 0, unsafe.Pointer(unsafe.SliceData(b)), uintptr(size),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED)
	return err
}

// copy puts the snapshot into b.
func (s snapshot) copy(b []byte) error {
	if s.file == nil {
		copy(b, s.b)
		return nil
	}
	_, err := s.file.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return err
}

func (s snapshot) free() {
	if s.file != nil {
		_ = s.file.Close()
	}
}
