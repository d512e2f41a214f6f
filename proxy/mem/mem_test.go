package mem

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
)

// No two have the same block, and each finds what it wrote.
func TestBlocksAreApart(t *testing.T) {
	before := InUse()
	var wg sync.WaitGroup
	for who := range byte(4) {
		wg.Go(func() {
			var mine [][]byte
			for range 3000 {
				if len(mine) > 0 && rand.IntN(2) == 0 {
					last := mine[len(mine)-1]
					if !bytes.Equal(last, bytes.Repeat([]byte{who}, BlockSize)) {
						t.Error("somebody else wrote here")
					}
					Put(last)
					mine = mine[:len(mine)-1]
					continue
				}
				b := Get()
				if len(b) != BlockSize || cap(b) != BlockSize {
					t.Errorf("a block of %d bytes with room for %d", len(b), cap(b))
				}
				for i := range b {
					b[i] = who
				}
				mine = append(mine, b)
			}
			for _, b := range mine {
				Put(b)
			}
		})
	}
	wg.Wait()
	if n := InUse() - before; n != 0 {
		t.Errorf("%d blocks are out at the end", n)
	}
}
