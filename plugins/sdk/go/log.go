package sdk

// Level of a log line (ABI.md §4).
type Level uint32

// Levels.
const (
	Debug Level = iota
	Info
	Warn
	Error
)

// Log writes one line to the host's log, or to stderr when run natively. The
// host cuts lines at 1,024 bytes and limits their rate.
func Log(l Level, line string) { hostLog(uint32(l), line) }
