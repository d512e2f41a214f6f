package sock

import (
	"time"

	"weir/proxy/poll"
)

// Dialer says how Dial connects.
type Dialer struct {
	Loops   *poll.Poller
	Near    *Conn      // whose loop the connection goes on; nil, or not on a loop: any
	Task    *poll.Task // which dials: it gives its loop back, or leaves it to look a name up; nil: a goroutine
	Timeout time.Duration
	// Waits is called before Dial waits, if it has to, with what ends the wait
	// from any goroutine.
	Waits func(cancel func())
}
