//go:build !linux

// Package poll runs callbacks when sockets become ready, on a few loops instead
// of a goroutine for each socket. It does so on Linux.
package poll

import "errors"

// Poller is a set of loops; elsewhere than on Linux there are none.
type Poller struct{}

// Worker is the goroutine that a handler runs on.
type Worker struct{}

// Leave does nothing.
func (*Worker) Leave() {}

// New reports that there are no loops.
func New(int) (*Poller, error) { return nil, errors.ErrUnsupported }

// Close does nothing.
func (*Poller) Close() {}
