package wsframe

import "fmt"

// Close codes that this package itself gives or names (RFC 6455 §7.4.1).
const (
	CloseProtocolError  uint16 = 1002 // the peer broke the protocol
	CloseNoStatus       uint16 = 1005 // a close frame without a code; never on the wire
	CloseInvalidPayload uint16 = 1007 // text that is not UTF-8
)

// Error is a breach of RFC 6455 by the peer that sent the frame.
type Error struct {
	Code   uint16 // close code the peer has earned: 1002 or 1007
	Reason string // what was seen, what is allowed, and the section
}

// Error returns the reason.
func (e *Error) Error() string { return e.Reason }

func protocolError(format string, args ...any) *Error {
	return &Error{Code: CloseProtocolError, Reason: fmt.Sprintf(format, args...)}
}
