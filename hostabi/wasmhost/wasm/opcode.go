package wasm

// Opcodes (WebAssembly 2.0 §5.4), as far as policies are rewritten or built with
// them.
const (
	OpUnreachable  = 0x00
	OpBlock        = 0x02
	OpLoop         = 0x03
	OpIf           = 0x04
	OpElse         = 0x05
	OpEnd          = 0x0B
	OpBr           = 0x0C
	OpBrIf         = 0x0D
	OpBrTable      = 0x0E
	OpReturn       = 0x0F
	OpCall         = 0x10
	OpCallIndirect = 0x11
	OpSelectT      = 0x1C
	OpLocalGet     = 0x20
	OpLocalTee     = 0x22
	OpGlobalGet    = 0x23
	OpGlobalSet    = 0x24
	OpTableSet     = 0x26
	OpMemorySize   = 0x3F
	OpMemoryGrow   = 0x40
	OpI32Const     = 0x41
	OpI64Const     = 0x42
	OpF32Const     = 0x43
	OpF64Const     = 0x44
	OpI32GtS       = 0x4A
	OpI32Sub       = 0x6B
	OpI32ShrU      = 0x76
	OpI64Or        = 0x84
	OpI32TruncF32S = 0xA8 // the first of four that may trap
	OpI32TruncF64U = 0xAB
	OpI64TruncF32S = 0xAE // likewise
	OpI64TruncF64U = 0xB1
	OpLastNumeric  = 0xC4
	OpRefNull      = 0xD0
	OpRefIsNull    = 0xD1
	OpRefFunc      = 0xD2
	OpMisc         = 0xFC
	OpSIMD         = 0xFD

	BlockEmpty = 0x40
)
