//go:build !linux

package sock

import (
	"errors"

	"weir/proxy/poll"
)

// Leg is a Conn whose reader is called by a loop; there are loops on Linux.
type Leg struct{ *Conn }

// Leg reports that there are no loops.
func (c *Conn) Leg(*poll.Poller, *Leg) (*Leg, error) { return nil, errors.ErrUnsupported }
