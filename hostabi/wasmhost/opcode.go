package wasmhost

// Opcodes that the rewriter reads or writes (WebAssembly 2.0 §5.4).
const (
	opUnreachable  = 0x00
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0B
	opBr           = 0x0C
	opBrIf         = 0x0D
	opBrTable      = 0x0E
	opCall         = 0x10
	opCallIndirect = 0x11
	opSelectT      = 0x1C
	opLocalGet     = 0x20
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opTableSet     = 0x26
	opMemorySize   = 0x3F
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opI32GtS       = 0x4A
	opI32Sub       = 0x6B
	opI32ShrU      = 0x76
	opI64Or        = 0x84
	opLastNumeric  = 0xC4
	opRefNull      = 0xD0
	opRefIsNull    = 0xD1
	opRefFunc      = 0xD2
	opMisc         = 0xFC
	opSIMD         = 0xFD

	blockEmpty = 0x40
)

// copier copies instructions, moving the functions they name. It is stricter
// than the engine where the binary format leaves a choice, so that both always
// agree where an instruction ends.
type copier struct {
	meter
	limit   uint32 // number of globals that code may name
	scratch uint32 // the function's extra local
	nesting nesting
	out     []byte
	refused error
	marked  bool     // functions mark that they were called
	own     uint32   // number of the function, imports not counted
	calls   []uint32 // functions that were named, as the module counts them
	print   uint64   // of the function: its instructions without their operands
	wild    bool     // an instruction that changes tables or uses up segments
}

// expression copies instructions to the end of a constant expression.
func (c *copier) expression(r *reader) {
	for r.more() && c.refused == nil {
		if c.instruction(r) == opEnd {
			return
		}
	}
	if c.refused == nil {
		r.fail(errShort)
	}
}

// instruction copies one instruction and returns its opcode.
func (c *copier) instruction(r *reader) byte {
	start := r.off
	op := r.byte()
	c.print = (c.print ^ uint64(op)) * 1099511628211 // FNV-1a, by instructions
	switch {
	case op == opCall || op == opRefFunc:
		f := r.u32()
		c.calls = append(c.calls, f)
		c.out = appendU32(append(c.out, op), c.moved(f))
		return op
	case op == opGlobalGet || op == opGlobalSet:
		if g := r.u32(); g >= c.limit {
			c.refused = refuse("build it again", "code names global %d of %d", g, c.limit)
		}
	case op == opMemoryGrow:
		c.checkNow() // it may copy the whole memory
		c.zero(r, 1)
	case op == opMisc:
		c.misc(r)
	case op == opSIMD:
		c.simd(r)
	default:
		c.plain(op, r)
	}
	if r.err == nil && c.refused == nil {
		c.out = append(c.out, r.b[start:r.off]...)
	}
	return op
}

// plain passes the immediates of a one-byte opcode.
func (c *copier) plain(op byte, r *reader) {
	switch {
	case op == opBlock || op == opLoop || op == opIf:
		c.nesting.enter(op)
		c.blockType(op, r)
	case op == opElse:
		c.nesting.blocks++
	case op == opEnd:
		c.nesting.leave()
	case op <= 0x01 || op == 0x0F || op == 0x1A || op == 0x1B:
	case op == opBr || op == opBrIf:
		c.nesting.blocks++
		r.u32()
	case op == opBrTable:
		for range r.count() {
			c.nesting.blocks++
			r.u32()
		}
		r.u32()
	case op == opCallIndirect:
		r.u32()
		r.u32()
	case op == opSelectT:
		if n, t := r.byte(), r.byte(); n != 1 || !isValueType(t) {
			c.unknown(op, n, t)
		}
	case op >= opLocalGet && op <= opTableSet:
		c.wild = c.wild || op == opTableSet
		r.u32()
	case op >= 0x28 && op < opMemorySize: // loads and stores
		memarg(r)
	case op == opMemorySize:
		c.zero(r, 1)
	case op == opI32Const:
		r.skipLEB(5)
	case op == opI64Const:
		r.skipLEB(10)
	case op == opF32Const:
		r.take(4)
	case op == opF64Const:
		r.take(8)
	case op > opF64Const && op <= opLastNumeric || op == opRefIsNull:
	case op == opRefNull:
		if t := r.byte(); t != 0x70 && t != 0x6F {
			c.unknown(op)
		}
	default:
		c.unknown(op)
	}
}

// leaves says whether control may go elsewhere than to the next instruction: at
// everything but blocks, and operations from drop to the last numeric one that
// are no memory.grow.
func leaves(op byte) bool {
	return op != opBlock && op != opLoop && (op < 0x1A || op > opLastNumeric || op == opMemoryGrow)
}

// blockType passes a block's type: empty, a value type, or the index of a type.
func (c *copier) blockType(op byte, r *reader) {
	switch b := r.byte(); {
	case b == blockEmpty || isValueType(b):
	case b < 0x40: // an index in one byte
	case b >= 0x80: // or in more, not negative
		last := b
		for range 4 {
			if last = r.byte(); last < 0x80 {
				break
			}
		}
		if last >= 0x40 {
			c.unknown(op, b)
		}
	default:
		c.unknown(op, b)
	}
}

// misc passes the rest of an instruction with prefix 0xFC.
func (c *copier) misc(r *reader) {
	sub := r.byte()
	c.wild = c.wild || sub >= 8 && sub != 10 && sub != 11 && sub != 16
	switch sub {
	case 0, 1, 2, 3, 4, 5, 6, 7: // saturating truncation
	case 8: // memory.init
		c.payBulk()
		r.u32()
		c.zero(r, 1)
	case 9, 13, 16: // data.drop, elem.drop, table.size
		r.u32()
	case 10: // memory.copy
		c.payBulk()
		c.zero(r, 2)
	case 11: // memory.fill
		c.payBulk()
		c.zero(r, 1)
	case 12, 14: // table.init, table.copy
		c.payBulk()
		r.u32()
		r.u32()
	case 15, 17: // table.grow, table.fill
		c.payBulk()
		r.u32()
	default:
		c.unknown(opMisc, sub)
	}
}

// simd passes the rest of an instruction with prefix 0xFD.
func (c *copier) simd(r *reader) {
	sub := r.byte()
	if sub >= 0x80 { // LEB128 of 128–255, in its shortest form
		if high := r.byte(); high != 1 {
			c.unknown(opSIMD, sub, high)
		}
		return
	}
	switch {
	case sub <= 11, sub == 92, sub == 93: // loads and stores
		memarg(r)
	case sub == 12, sub == 13: // v128.const, shuffle
		r.take(16)
	case sub >= 21 && sub <= 34: // lanes
		r.byte()
	case sub >= 84 && sub <= 91: // loads and stores of a lane
		memarg(r)
		r.byte()
	}
}

func memarg(r *reader) {
	r.u32()
	r.u32()
}

// zero passes n reserved bytes.
func (c *copier) zero(r *reader, n int) {
	for range n {
		if r.byte() != 0 && r.err == nil {
			c.refused = refuse("build without multiple memories", "code names a memory other than 0")
		}
	}
}

func (c *copier) unknown(op ...byte) {
	c.refused = refuse(remedyWasm2, "instruction %#x is unknown", op)
}
