package flow

import (
	"encoding/binary"
	"math"

	"weir/proxy/mem"
)

const (
	recordSize = 16            // bytes of a record
	maxBlock   = mem.BlockSize // bytes of a block; where a record ends takes 16 bits
	minBlock   = 512           // bytes; one small message waits in no more
	splitMin   = 128           // bytes of a message that are worth a record of their own
)

// record is what a block knows about a message, or about a piece of one that
// goes on in the next block.
type record struct {
	delta uint32 // the message's number, counted from the block's base
	gap   uint64 // messages shed right before it; 40 bits are kept
	arg   uint32 // of a droppable message its state, 0 for none; else how many messages end with it
	end   uint16 // of its bytes in the block
	flags flags
}

type flags uint8

const (
	dead       flags = 1 << iota // given up; its bytes lie there still
	superseded                   // a newer message of its state waits
	begun                        // behind a beginning that has left, or in its place right before this
	unfinished                   // the message goes on in the chain's next record
	continued                    // it began in a record before
	own                          // an envelope of Weir's own
	control                      // a control frame
	lent                         // its bytes are a loan's
)

// maxGap is the largest gap that a record holds: a trillion messages.
const maxGap = 1<<40 - 1

// block holds messages of one chain: their bytes from the front, their records
// from the back.
type block struct {
	mem        []byte
	base       uint64 // number of the message of record 0
	n          int    // records
	fill       int    // bytes of messages
	first      int    // records before it are written or dead
	off        int    // bytes of the first that are written
	live       int    // records neither written nor dead
	superseded int    // records
}

// newBlock returns a block of size bytes, at most maxBlock, that begins with
// message number.
func newBlock(size int, number uint64) *block {
	if size == maxBlock {
		return &block{mem: mem.Get(), base: number}
	}
	return &block{mem: make([]byte, size), base: number}
}

// free gives the memory back.
func (b *block) free() {
	if len(b.mem) == maxBlock {
		mem.Put(b.mem)
	}
	b.mem = nil
}

// space is how many bytes the block takes still, records included.
func (b *block) space() int { return len(b.mem) - b.fill - b.n*recordSize }

// reaches reports whether a record of message number can stand in b.
func (b *block) reaches(number uint64) bool { return number-b.base <= math.MaxUint32 }

func (b *block) slot(i int) *[recordSize]byte {
	at := len(b.mem) - (i+1)*recordSize
	return (*[recordSize]byte)(b.mem[at : at+recordSize])
}

// record returns record i.
func (b *block) record(i int) (r record) {
	s := b.slot(i)
	r.delta = binary.LittleEndian.Uint32(s[0:])
	r.arg = binary.LittleEndian.Uint32(s[8:])
	last := binary.LittleEndian.Uint32(s[12:])
	r.gap = uint64(binary.LittleEndian.Uint32(s[4:])) | uint64(last>>24)<<32
	r.end = uint16(last)
	r.flags = flags(last >> 16)
	return r
}

// put makes r record i.
func (b *block) put(i int, r record) {
	s := b.slot(i)
	gap := min(r.gap, maxGap)
	binary.LittleEndian.PutUint32(s[0:], r.delta)
	binary.LittleEndian.PutUint32(s[4:], uint32(gap))
	binary.LittleEndian.PutUint32(s[8:], r.arg)
	binary.LittleEndian.PutUint32(s[12:], uint32(r.end)|uint32(r.flags)<<16|uint32(gap>>32)<<24)
}

// flags returns those of record i.
func (b *block) flags(i int) flags { return flags(b.slot(i)[14]) }

// number returns that of record i's message.
func (b *block) number(i int) uint64 {
	return b.base + uint64(binary.LittleEndian.Uint32(b.slot(i)[0:]))
}

// start is where the bytes of record i begin that are not written.
func (b *block) start(i int) int {
	at := 0
	if i > 0 {
		at = int(binary.LittleEndian.Uint16(b.slot(i - 1)[12:]))
	}
	if i == b.first {
		at += b.off
	}
	return at
}
