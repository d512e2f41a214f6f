package wasmhost

import "github.com/tetratelabs/wazero/experimental"

// linear is an instance's linear memory, outside Go's heap where the system
// allows: only pages that the guest has touched are resident, growing copies
// nothing, an instance that ends gives its memory back at once, and the
// collector does not let the heap grow by as much again.
type linear struct {
	image  *image // that it begins as; nil: zeros
	b      []byte // all that there may ever be
	mapped bool
	err    error // of beginning as the image
}

// Allocate implements experimental.MemoryAllocator; an instance has one memory.
func (l *linear) Allocate(_, limit uint64) experimental.LinearMemory {
	l.b, l.mapped = reserve(int(limit))
	if l.image == nil {
		return l
	}
	if !l.mapped {
		l.b = make([]byte, l.image.size)
	}
	if !l.mapped || l.image.memory.place(l.b, l.image.size) != nil {
		l.err = l.image.memory.copy(l.b[:l.image.size])
	}
	return l
}

// Reallocate implements experimental.LinearMemory.
func (l *linear) Reallocate(size uint64) []byte {
	if !l.mapped && size > uint64(len(l.b)) {
		l.b = append(l.b, make([]byte, size-uint64(len(l.b)))...)
	}
	return l.b[:size:size]
}

// Free gives the memory back. The engine does not when starting has failed, so
// the instance does it, too.
func (l *linear) Free() {
	if l.mapped {
		release(l.b)
	}
	l.b, l.mapped = nil, false
}
