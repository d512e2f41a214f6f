package upstream

import (
	"fmt"
	"time"
)

// Kind says what went wrong with an upstream.
type Kind uint8

// Kinds of Error.
const (
	Unavailable Kind = iota // no connection could be made
	Timeout                 // no response head in time
	Closed                  // the connection ended before the response did
	Protocol                // the response broke HTTP
	Canceled                // the client left
)

var kindNames = [...]string{"unavailable", "timeout", "closed", "protocol", "canceled"}

// String names the kind for logs.
func (k Kind) String() string { return kindNames[k] }

// Error is the only error of Do, and what Exchange.Fault makes of a body's.
type Error struct {
	Kind    Kind
	URL     string        // the target's; empty: none was tried
	Err     error         // for logs; never shown to clients
	BodyErr error         // not nil: the request body failed first, and this is why
	After   time.Duration // of a Timeout: what was waited for the head

	again bool // nothing can have happened that must not happen twice
}

// Error implements error.
func (e *Error) Error() string {
	if e.BodyErr != nil {
		return fmt.Sprintf("upstream %s: request body: %v", e.URL, e.BodyErr)
	}
	return fmt.Sprintf("upstream %s: %s: %v", e.URL, e.Kind, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error {
	if e.BodyErr != nil {
		return e.BodyErr
	}
	return e.Err
}
