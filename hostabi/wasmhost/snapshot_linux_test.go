package wasmhost

import (
	"bytes"
	"testing"
)

// A snapshot is what the memory was, in a file and without one, for memories that
// were mapped and others, and changes with none of them.
func TestSnapshots(t *testing.T) {
	const size = 2 << 16
	was := make([]byte, size)
	copy(was[page+7:], "in the middle")
	was[size-1] = 1
	inFile, without := takeSnapshot(was), snapshot{b: bytes.Clone(was)}
	defer inFile.free()
	defer without.free()
	if inFile.file == nil {
		t.Error("it is in no file")
	}
	for name, s := range map[string]snapshot{"in a file": inFile, "without": without} {
		for range 2 {
			l := &linear{image: &image{memory: s, size: size}}
			l.Allocate(0, 4*size)
			got := l.Reallocate(size)
			if l.err != nil || !bytes.Equal(got, was) {
				t.Fatalf("%s: it differs, %v", name, l.err)
			}
			clear(got)
			if more := l.Reallocate(2 * size); !bytes.Equal(more, make([]byte, 2*size)) {
				t.Errorf("%s: what has grown is not zeros", name)
			}
			l.Free()
		}
		b := make([]byte, size)
		if err := s.copy(b); err != nil || !bytes.Equal(b, was) {
			t.Errorf("%s: the copy differs, %v", name, err)
		}
	}
}
