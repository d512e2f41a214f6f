// Package mem lends blocks of memory for what waits. Where it can they lie
// outside the Go heap: the collector then neither looks at them nor lets the
// heap grow by a share of them, and their pages go back to the system as soon
// as they are free.
package mem

import "sync"

const (
	// BlockSize is the size of every block, in bytes. Where it is a multiple of the
	// system's page, one block's pages hold nothing of another's.
	BlockSize = 16 << 10
	// keep is how many free blocks keep their pages, 8 MiB: queues that fill and
	// drain all the time are not to pay for pages each time.
	keep = 512
	// regionSize is how many blocks are asked of the system at once, 1 MiB.
	regionSize = 64
)

// free are the blocks that nobody has.
var free struct {
	sync.Mutex
	warm  [][]byte // with their pages; the last in is the first out
	cold  [][]byte // without
	inUse int
}

// Get returns a block of BlockSize bytes, whose content is anything. It never
// fails: what the system does not give comes from the Go heap.
func Get() []byte {
	free.Lock()
	defer free.Unlock()
	free.inUse++
	from := &free.warm
	if len(*from) == 0 {
		from = &free.cold
		if len(*from) == 0 {
			free.cold = region(free.cold)
		}
	}
	last := len(*from) - 1
	b := (*from)[last]
	*from = (*from)[:last]
	return b
}

// Put gives a block of Get's back. Nobody may use it any more.
func Put(b []byte) {
	free.Lock()
	defer free.Unlock()
	free.inUse--
	if len(free.warm) < keep {
		free.warm = append(free.warm, b)
		return
	}
	discard(b)
	free.cold = append(free.cold, b)
}

// InUse returns how many blocks are out.
func InUse() int {
	free.Lock()
	defer free.Unlock()
	return free.inUse
}

// cut appends the blocks of a region to to.
func cut(to [][]byte, r []byte) [][]byte {
	for ; len(r) > 0; r = r[BlockSize:] {
		to = append(to, r[:BlockSize:BlockSize])
	}
	return to
}
