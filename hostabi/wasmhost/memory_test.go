package wasmhost

import (
	"testing"

	"github.com/tetratelabs/wazero/experimental"

	"weir/hostabi"
)

func TestLinearMemoryKeepsWhatIsInIt(t *testing.T) {
	onHeap := &linear{} // where nothing can be mapped
	mapped := &linear{}
	mapped.Allocate(0, hostabi.MaxMemoryPages<<16)
	for name, l := range map[string]experimental.LinearMemory{"on the heap": onHeap, "mapped": mapped} {
		b := l.Reallocate(1 << 16)
		b[0], b[1<<16-1] = 1, 2
		for pages := uint64(2); pages <= hostabi.MaxMemoryPages; pages *= 2 {
			b = l.Reallocate(pages << 16)
			if uint64(len(b)) != pages<<16 || b[0] != 1 || b[1<<16-1] != 2 || b[len(b)-1] != 0 {
				t.Fatalf("%s: %d bytes at %d pages, or others than before", name, len(b), pages)
			}
		}
		l.Free()
		l.Free() // the engine and the instance both do
	}
}
