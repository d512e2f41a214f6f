package rewrite

import "fmt"

// Error is why a module is refused.
type Error struct {
	Reason string // what is wrong; measured and allowed where there is a limit
	Remedy string // what its author or operator does about it
}

// Error says what is wrong and what to do.
func (e *Error) Error() string { return e.Reason + "; " + e.Remedy }

func refuse(remedy, format string, args ...any) *Error {
	return &Error{Reason: fmt.Sprintf(format, args...), Remedy: remedy}
}
