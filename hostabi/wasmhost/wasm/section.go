package wasm

// Header begins every module of version 1.
const Header = "\x00asm\x01\x00\x00\x00"

// WASI is the module that the functions of WASI are imported from.
const WASI = "wasi_snapshot_preview1"

// Sections of a module, by id (WebAssembly 2.0 §5.5).
const (
	SecCustom = iota
	SecType
	SecImport
	SecFunction
	SecTable
	SecMemory
	SecGlobal
	SecExport
	SecStart
	SecElement
	SecCode
	SecData
	SecDataCount
)

// AppendSection appends a section with its id and length.
func AppendSection(dst []byte, id byte, body []byte) []byte {
	dst = append(dst, id)
	dst = AppendU32(dst, uint32(len(body)))
	return append(dst, body...)
}
