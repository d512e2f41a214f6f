package sock

import (
	"slices"
	"sync"
)

// ciphertext is what waits for the kernel: b from off on.
type ciphertext struct {
	b       []byte
	off     int
	records []sealed // of data; b may have others
}

// sealed is a record that ends there in a ciphertext, and how much plaintext it has.
type sealed struct{ end, data int }

// went takes off n bytes, and returns how much plaintext the records have that end there.
func (c *ciphertext) went(n int) (data int) {
	c.off += n
	gone := 0
	for ; gone < len(c.records) && c.records[gone].end <= c.off; gone++ {
		data += c.records[gone].data
	}
	c.records = slices.Delete(c.records, 0, gone)
	return data
}

// shift has what waits begin where what went did.
func (c *ciphertext) shift() {
	c.b = c.b[:copy(c.b, c.b[c.off:])]
	for i := range c.records {
		c.records[i].end -= c.off
	}
	c.off = 0
}

var outs = sync.Pool{New: func() any { return new(ciphertext) }}

func (c *ciphertext) giveBack() {
	c.b, c.off, c.records = c.b[:0], 0, c.records[:0]
	outs.Put(c)
}
