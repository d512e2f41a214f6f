package flow

import "sort"

// chain is what waits of one rank, oldest first. It is written and shed from
// its front, so that what goes leaves no holes: its blocks become free one
// after the other. Only states, which newer ones supersede, go from the middle.
type chain struct {
	rank    int // the priority of droppable messages; or neverShed
	blocks  []*block
	live    int    // bytes of what is neither written nor dead, records included
	waiting int    // messages that can be given up: not begun, not superseded
	shed    uint64 // every message before this number is shed, or can not be
	hollow  bool   // a block has nothing alive any more

	superseded int    // records
	stale      uint64 // no message before this number is superseded

	at cursor // of who walks the queue
}

// neverShed is the rank of everything that is not droppable.
const neverShed = 256

func (c *chain) droppable() bool { return c.rank != neverShed }

// place is where a record stands in its chain.
type place struct{ block, i int }

// cursor is a place and what stands there.
type cursor struct {
	place
	record
	number uint64
	ok     bool // false: the chain's end
}

// set moves the cursor to the first record alive at p or behind.
func (c *chain) set(p place) {
	for ; p.block < len(c.blocks); p.block, p.i = p.block+1, 0 {
		b := c.blocks[p.block]
		for i := max(p.i, b.first); i < b.n; i++ {
			if b.flags(i)&dead == 0 {
				c.at.block, c.at.i = p.block, i
				c.at.record = b.record(i)
				c.at.number = b.base + uint64(c.at.delta)
				c.at.ok = true
				return
			}
		}
	}
	c.at.ok = false
}

// step moves the cursor on.
func (c *chain) step() { c.set(place{c.at.block, c.at.i + 1}) }

// find sets the cursor to the first record alive whose message has that number
// or a later one. Where the cursor is, it looks first.
func (c *chain) find(number uint64) {
	if p, ok := c.near(number); ok {
		c.set(p)
		return
	}
	p := place{block: sort.Search(len(c.blocks), func(i int) bool { return c.blocks[i].base >= number })}
	if p.block > 0 {
		b := c.blocks[p.block-1]
		if i := sort.Search(b.n, func(i int) bool { return b.number(i) >= number }); i < b.n {
			p = place{p.block - 1, i}
		}
	}
	c.set(p)
}

// toStale sets the cursor to the oldest superseded state; there is one. False: it is
// newer than was known.
func (c *chain) toStale() bool {
	for c.find(c.stale); c.at.flags&superseded == 0; {
		if c.here().superseded == 0 {
			c.set(place{block: c.at.block + 1})
		} else {
			c.step()
		}
	}
	known := c.stale
	c.stale = c.at.number
	return c.stale == known
}

// near looks for a message behind the cursor, not far.
func (c *chain) near(number uint64) (p place, ok bool) {
	const far = 8 // records
	p = c.at.place
	if p.block >= len(c.blocks) {
		return p, false
	}
	b := c.blocks[p.block]
	p.i = max(p.i, 1)
	if p.i >= b.n || b.number(p.i-1) >= number {
		return p, false
	}
	for end := min(b.n, p.i+far); p.i < end; p.i++ {
		if b.number(p.i) >= number {
			return p, true
		}
	}
	return p, false
}

// here returns the block that the cursor is in.
func (c *chain) here() *block { return c.blocks[c.at.block] }

// lies returns the block that the bytes at the cursor lie in; nil: they are
// lent.
func (c *chain) lies() *block {
	if c.at.flags&lent != 0 {
		return nil
	}
	return c.here()
}

// ends is how many messages end with the one at the cursor.
func (c *chain) ends() int {
	if c.droppable() {
		return 1
	}
	return int(c.at.arg)
}

// rewrite stores what was changed of the record at the cursor.
func (c *chain) rewrite() { c.here().put(c.at.i, c.at.record) }

// gone notes that the record at the cursor is written or dead.
func (c *chain) gone() {
	b := c.here()
	c.live -= int(c.at.end) - b.start(c.at.i) + recordSize
	b.live--
	c.hollow = c.hollow || b.live == 0
}

// lay appends a message, or a piece of one, behind what is there, over as many
// blocks as it takes. New blocks are of the size that next says for what is
// left. It returns the memory added.
func (c *chain) lay(number uint64, wire []byte, r record, next func(left int) int) (added int) {
	goesOn := r.flags & unfinished
	for {
		var b *block
		if n := len(c.blocks); n > 0 {
			b = c.blocks[n-1]
		}
		if b == nil || b.space() < recordSize+min(len(wire), splitMin) || !b.reaches(number) {
			b = newBlock(next(len(wire)+recordSize), number)
			c.blocks = append(c.blocks, b)
			added += len(b.mem)
		}
		n := min(len(wire), b.space()-recordSize)
		r.flags &^= unfinished
		if n < len(wire) {
			r.flags |= unfinished
		} else {
			r.flags |= goesOn
		}
		copy(b.mem[b.fill:], wire[:n])
		b.fill += n
		r.delta, r.end = uint32(number-b.base), uint16(b.fill)
		b.put(b.n, r)
		b.n++
		b.live++
		c.live += n + recordSize
		if r.flags&superseded != 0 {
			b.superseded++
		}
		if n == len(wire) {
			return added
		}
		wire = wire[n:]
		r.flags = r.flags&^superseded | continued
		r.gap = 0
	}
}

// grow is the size of a new block for left bytes behind what waits already: in
// proportion to that, so that little waits in little, and to the chain's share of the
// queue, so that new blocks of all its chains stay within bound.
func (c *chain) grow(left, chains int) int {
	size := minBlock
	for size < maxBlock && size < max(left, c.live/(2*chains)) {
		size *= 2
	}
	return size
}

// sweep frees the blocks that have nothing alive. It returns their memory.
func (c *chain) sweep() (freed int) {
	if !c.hollow {
		return 0
	}
	c.hollow = false
	kept := c.blocks[:0]
	for _, b := range c.blocks {
		if b.live > 0 {
			kept = append(kept, b)
			continue
		}
		freed += len(b.mem)
		b.free()
	}
	clear(c.blocks[len(kept):])
	c.blocks = kept
	return freed
}

// compact lays what is alive into blocks that fit it. It returns the memory
// held before and after.
func (c *chain) compact() (before, after int) {
	old := c.blocks
	left := c.live
	c.blocks, c.live, c.hollow = nil, 0, false
	for _, b := range old {
		before += len(b.mem)
		for i := b.first; i < b.n; i++ {
			r := b.record(i)
			if r.flags&dead != 0 {
				continue
			}
			wire := b.mem[b.start(i):r.end]
			after += c.lay(b.base+uint64(r.delta), wire, r, func(now int) int { return min(max(now, left), maxBlock) })
			left -= len(wire) + recordSize
		}
		b.free()
	}
	return before, after
}
