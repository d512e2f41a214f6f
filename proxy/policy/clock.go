package policy

import "time"

// What is kept for a while ends by the monotonic clock: the other may be set back.
var (
	began     = time.Now()
	beganUnix = began.UnixNano()
)

// nanos is t in Unix nanoseconds, by the clock as it stood when Weir started.
func nanos(t time.Time) int64 { return beganUnix + int64(t.Sub(began)) }
