package rewrite

import "weir/hostabi/wasmhost/wasm"

// copier copies instructions, moving the functions they name. It is stricter
// than the engine where the binary format leaves a choice, so that both always
// agree where an instruction ends.
type copier struct {
	meter
	draft   *Draft // whose code it is
	limit   uint32 // number of globals that code may name
	scratch uint32 // the function's extra local
	locals  uint64 // of all functions
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
		if c.instruction(r) == wasm.OpEnd {
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
	c.nesting.shift(effects.of(op))
	switch {
	case op == wasm.OpCall || op == wasm.OpRefFunc:
		f := r.u32()
		c.nesting.calls++
		if op == wasm.OpCall {
			c.passes(c.draft.typeOf(f))
		}
		c.calls = append(c.calls, f)
		c.out = wasm.AppendU32(append(c.out, op), c.moved(f))
		return op
	case op == wasm.OpGlobalGet || op == wasm.OpGlobalSet:
		if g := r.u32(); g >= c.limit {
			c.refused = refuse("build it again", "code names global %d of %d", g, c.limit)
		}
	case op == wasm.OpMemoryGrow:
		c.checkNow() // it may copy the whole memory
		c.zero(r, 1)
	case op == wasm.OpMisc:
		c.misc(r)
	case op == wasm.OpSIMD:
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
	case op == wasm.OpBlock || op == wasm.OpLoop || op == wasm.OpIf:
		c.nesting.enter(op, c.blockType(op, r))
	case op == wasm.OpElse:
		c.nesting.otherwise()
	case op == wasm.OpEnd:
		c.nesting.leave()
	case op == wasm.OpUnreachable || op == wasm.OpReturn:
		c.nesting.part()
	case op == 0x01 || op == 0x1A || op == 0x1B:
	case op == wasm.OpBr || op == wasm.OpBrIf:
		c.nesting.split()
		c.nesting.jump(r.u32())
		if op == wasm.OpBr {
			c.nesting.part()
		}
	case op == wasm.OpBrTable:
		for range r.count() {
			c.nesting.split()
			c.nesting.jump(r.u32())
		}
		c.nesting.jump(r.u32())
		c.nesting.part()
	case op == wasm.OpCallIndirect:
		c.nesting.calls++
		c.passes(c.draft.typeAt(r.u32()))
		r.u32()
	case op == wasm.OpSelectT:
		if n, t := r.byte(), r.byte(); n != 1 || !wasm.IsValueType(t) {
			c.unknown(op, n, t)
		}
	case op >= wasm.OpLocalGet && op <= wasm.OpTableSet:
		c.wild = c.wild || op == wasm.OpTableSet
		r.u32()
	case op >= 0x28 && op < wasm.OpMemorySize: // loads and stores
		c.memarg(r)
	case op == wasm.OpMemorySize:
		c.zero(r, 1)
	case op == wasm.OpI32Const:
		r.skipLEB(5)
	case op == wasm.OpI64Const:
		r.skipLEB(10)
	case op == wasm.OpF32Const:
		r.take(4)
	case op == wasm.OpF64Const:
		r.take(8)
	case op >= wasm.OpI32TruncF32S && op <= wasm.OpI32TruncF64U || op >= wasm.OpI64TruncF32S && op <= wasm.OpI64TruncF64U:
		// machine code with branches
		c.nesting.split()
	case op > wasm.OpF64Const && op <= wasm.OpLastNumeric || op == wasm.OpRefIsNull:
	case op == wasm.OpRefNull:
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
	return op != wasm.OpBlock && op != wasm.OpLoop && (op < 0x1A || op > wasm.OpLastNumeric || op == wasm.OpMemoryGrow)
}

// passes is what a call does to the operand stack.
func (c *copier) passes(t wasm.Signature) { c.nesting.shift(len(t.Results) - len(t.Params)) }

// blockType passes a block's type: empty, a value type, or the index of a type.
func (c *copier) blockType(op byte, r *reader) wasm.Signature {
	switch b := r.byte(); {
	case b == wasm.BlockEmpty:
	case wasm.IsValueType(b):
		return wasm.Signature{Results: string(b)}
	case b < 0x40: // an index in one byte
		return c.draft.typeAt(uint32(b))
	case b >= 0x80: // or in more, not negative
		last, index := b, uint32(b&0x7F)
		for i := range 4 {
			last = r.byte()
			index |= uint32(last&0x7F) << (7 * (i + 1))
			if last < 0x80 {
				break
			}
		}
		if last >= 0x40 {
			c.unknown(op, b)
		}
		return c.draft.typeAt(index)
	default:
		c.unknown(op, b)
	}
	return wasm.Signature{}
}

// misc passes the rest of an instruction with prefix 0xFC.
func (c *copier) misc(r *reader) {
	sub := r.byte()
	c.nesting.shift(effectsMisc.of(sub))
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
		c.unknown(wasm.OpMisc, sub)
	}
}

// simd passes the rest of an instruction with prefix 0xFD.
func (c *copier) simd(r *reader) {
	sub := r.byte()
	c.nesting.shift(effectsSIMD.of(sub))
	if sub >= 0x80 { // LEB128 of 128–255, in its shortest form
		if high := r.byte(); high != 1 {
			c.unknown(wasm.OpSIMD, sub, high)
		}
		return
	}
	switch {
	case sub <= 11, sub == 92, sub == 93: // loads and stores
		c.memarg(r)
	case sub == 12, sub == 13: // v128.const, shuffle
		r.take(16)
	case sub >= 21 && sub <= 34: // lanes
		r.byte()
	case sub >= 84 && sub <= 91: // loads and stores of a lane
		c.memarg(r)
		r.byte()
	}
}

func (c *copier) memarg(r *reader) {
	c.nesting.accesses++
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
