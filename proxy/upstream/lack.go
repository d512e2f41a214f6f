package upstream

import "weir/proxy/sock"

// lackError is a connection that could not be made for want of what Weir needs
// itself: it says nothing about the target.
type lackError struct {
	what string
	err  error
}

func (e *lackError) Error() string { return "weir lacks " + e.what + ": " + e.err.Error() }
func (e *lackError) Unwrap() error { return e.err }

// lackOf returns err as a *lackError if it is one; else nil.
func lackOf(err error) *lackError {
	if what := sock.Lack(err); what != "" {
		return &lackError{what, err}
	}
	return nil
}
