// Package wsframe reads and writes WebSocket frames in place (RFC 6455 §5).
//
// It knows bytes only: no I/O, no goroutine, no clock. A relay parses a frame's
// header where it lies in a read buffer, checks it against the frames that came
// before it in the same direction, and passes the same bytes on.
package wsframe

// Opcode says what a frame is (RFC 6455 §5.2).
type Opcode byte

// The opcodes that RFC 6455 §11.8 registers; every other value is reserved.
const (
	Continuation Opcode = 0
	Text         Opcode = 1
	Binary       Opcode = 2
	Close        Opcode = 8
	Ping         Opcode = 9
	Pong         Opcode = 10
)

// Bounds of the frame format, in bytes.
const (
	MaxHeader         = 14  // 2, an 8-byte length, a 4-byte mask (RFC 6455 §5.2)
	MaxControlPayload = 125 // of a close, ping or pong (RFC 6455 §5.5)
	MaxCloseReason    = 123 // what a close frame leaves beside its code
)

// IsControl tells close, ping, pong and the reserved control opcodes from data.
func (o Opcode) IsControl() bool { return o&8 != 0 }

// known reports whether RFC 6455 registers o.
func (o Opcode) known() bool { return o <= Binary || (o >= Close && o <= Pong) }

// String returns the opcode's name in lower case, "reserved" for the rest.
func (o Opcode) String() string {
	switch o {
	case Continuation:
		return "continuation"
	case Text:
		return "text"
	case Binary:
		return "binary"
	case Close:
		return "close"
	case Ping:
		return "ping"
	case Pong:
		return "pong"
	}
	return "reserved"
}
