package wasmhost

import (
	"time"
)

// Info is what there is to know of a module while it serves.
type Info struct {
	Hash        string // SHA-256 of the file, hex
	Engine      string
	ABI         string // the version the guest was built for, "1.0"
	Instances   int    // that serve; fewer than the pool's size while one that faulted is replaced
	Calls       int64
	Faults      int64  // calls that produced no answer
	Retired     int64  // instances replaced because their memory had grown
	Breaker     string // "closed", "open" or "half-open": the worst of its hooks'
	MemoryBytes int64  // linear memory of all instances
	GrownBytes  int64  // that memory grew by in hooks, also of instances that are gone
}

// Info describes the module as it is now.
func (m *Module) Info() Info {
	return Info{
		Hash:        m.code.hash,
		Engine:      m.opts.Engine,
		ABI:         m.code.abiString(),
		Instances:   int(min(m.live.Load(), int64(cap(m.slots)))),
		Calls:       m.calls.Load(),
		Faults:      m.faults.Load(),
		Retired:     m.retired.Load(),
		Breaker:     m.breakerState(time.Now()),
		MemoryBytes: m.memBytes.Load(),
		GrownBytes:  m.grown.Load(),
	}
}

// breakerState is the worst state of a hook's breaker at now.
func (m *Module) breakerState(now time.Time) string {
	worst := "closed"
	for _, b := range m.breakers {
		worst = max(worst, b.state(now)) // the alphabet has them in this order: closed, half-open, open
	}
	return worst
}
