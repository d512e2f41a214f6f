//go:build !linux

// Package poll runs callbacks when sockets become ready, on a few loops instead
// of a goroutine for each socket. It does so on Linux.
package poll

import "errors"

// Poller is a set of loops; elsewhere than on Linux there are none.
type Poller struct{ stacks stacks }

// New reports that there are no loops.
func New(int, func(v any, stack []byte)) (*Poller, error) { return nil, errors.ErrUnsupported }

// Loops is none.
func (*Poller) Loops() int { return 0 }

// Close does nothing.
func (*Poller) Close() {}

// Source is one socket on a loop.
type Source struct{}

// Call does nothing.
func (*Source) Call(func(leave func())) {}

func (*Source) callLate(func(leave func())) {}
