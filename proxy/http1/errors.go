package http1

import "errors"

// Errors of an Exchange and of its Body.
var (
	ErrInterrupted = errors.New("http1: reading the body was interrupted")
	ErrStarted     = errors.New("http1: the answer has begun already")
	ErrNotStarted  = errors.New("http1: the answer has not begun")
	ErrFinished    = errors.New("http1: the answer is finished")
	ErrLength      = errors.New("http1: the body differs from its Content-Length")
	ErrAborted     = errors.New("http1: the answer was aborted")
)
