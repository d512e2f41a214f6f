//go:build !linux

package mem

// region appends the blocks of one more region to to.
func region(to [][]byte) [][]byte { return cut(to, make([]byte, regionSize*BlockSize)) }

// discard does nothing: the region belongs to the Go heap.
func discard([]byte) {}
