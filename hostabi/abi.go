// Package hostabi is the contract between Weir and a policy: hook names,
// result layout, tags, limits, the fault catalogue and the TLV codec of ABI v1.
//
// It imports nothing but strconv (encoding/binary would bring reflection into
// every guest), so that guests written in Go use the very same code as the host.
// ABI.md in this directory is normative.
package hostabi

// Version of the ABI this package implements (ABI.md §2). A guest whose major
// differs is refused; a guest with a higher minor is served what both know.
const (
	Major = 1
	Minor = 0
)

// Version is major<<16 | minor, the result of the weir_abi export.
const Version = Major<<16 | Minor

// Export and import names (ABI.md §3, §4).
const (
	ExportMemory     = "memory"
	ExportInitialize = "_initialize"
	ExportABI        = "weir_abi"
	ExportBuffer     = "weir_buffer"

	ImportModule = "weir_v1"
	ImportLog    = "log"
)

// Hook names one decision a policy can make.
type Hook uint8

// The hooks of ABI v1 (ABI.md §6).
const (
	Configure Hook = iota
	Classify
	Admit
	FramingHook
	FaultHook
	ErrorHook
	NumHooks = 6
)

var hookNames = [NumHooks]string{"configure", "classify", "admit", "framing", "fault", "error"}

// String returns the hook's short name, as used in metrics and logs.
func (h Hook) String() string { return hookNames[h] }

// Export returns the name of the function a module exports for h.
func (h Hook) Export() string { return "weir_" + hookNames[h] }

// Status is bits 32–47 of a hook's result (ABI.md §5.2).
type Status uint16

// Statuses of ABI v1; 256 and above are the guest's own failures.
const (
	StatusOK          Status = 0
	StatusNoOpinion   Status = 1 // the native default applies
	StatusBadInput    Status = 2
	StatusUnsupported Status = 3
	StatusGuest       Status = 256
)

// Cacheability is bits 48–63 of a hook's result: 0 not at all,
// CacheGeneration as long as the generation lives, else seconds.
type Cacheability uint16

// Cacheability values with a meaning of their own.
const (
	CacheNo         Cacheability = 0
	CacheGeneration Cacheability = 0xFFFF
)

// Result is what a hook returns.
type Result uint64

// MakeResult packs a result (ABI.md §5.2).
func MakeResult(n uint32, s Status, c Cacheability) Result {
	return Result(uint64(n) | uint64(s)<<32 | uint64(c)<<48)
}

// Len is the number of bytes of output.
func (r Result) Len() uint32 { return uint32(r) }

// Status is the outcome of the call.
func (r Result) Status() Status { return Status(r >> 32) }

// Cache says how long the answer may be reused.
func (r Result) Cache() Cacheability { return Cacheability(r >> 48) }

// Bounds of ABI v1 (ABI.md §8). The host refuses or cuts off what exceeds them.
const (
	MaxModuleBytes  = 8 << 20  // size of a module file
	MaxMemoryPages  = 256      // 64 KiB each: 16 MiB of linear memory
	MaxTableEntries = 10000    // of every table of a module
	MaxInput        = 64 << 10 // bytes handed to one hook call
	MaxOutput       = 8 << 10  // bytes one hook call may return
	MaxCachedKeys   = 4096     // event keys with a cached rule, per policy
	MaxEventKey     = 128      // bytes of an event key; longer ones get the native default
	MaxPointer      = 256      // bytes of a JSON pointer in a shape or a rule
	MaxLimitClass   = 128      // bytes of AdmitOutput.LimitClass
	MaxTemplate     = 4 << 10  // bytes of an envelope template
	MaxEnvelope     = 64 << 10 // bytes of an envelope that is filled
	MaxLogLine      = 1 << 10  // bytes of one weir_v1.log message
)
