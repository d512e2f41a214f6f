// Package http1 speaks strict HTTP/1.x on a connection, in both roles: heads
// are checked whole, bodies stream, and a connection is always in a defined state (RFC 9110, RFC 9112).
package http1

import "fmt"

// Error says why a message head or a body was refused.
type Error struct {
	Status int    // the HTTP status to answer with: 400, 408, 414, 417, 431, 501 or 505
	Reason string // measured, allowed; never bytes of the peer
	Line   int    // of the head, the first line being 1; 0: not in the head
}

// Error implements error.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Reason
	}
	return fmt.Sprintf("line %d of the head: %s", e.Line, e.Reason)
}

func bad(line int, reason string) *Error { return &Error{Status: 400, Reason: reason, Line: line} }
