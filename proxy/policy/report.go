package policy

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"weir/hostabi"
)

const (
	reportEvery = time.Second // one line of each hook's failures in this time
	guestLines  = 10          // lines of the guest's own log in this time
)

// reporter logs what goes wrong in a policy, at a bounded rate.
type reporter struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	hooks  [hostabi.NumHooks]throttle
	guests throttle
}

// throttle lets burst lines through in every reportEvery and counts the rest.
type throttle struct {
	until      time.Time
	lines      int
	suppressed int
}

func newReporter(log *slog.Logger, policy string) *reporter {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &reporter{log: log.With("policy", policy), now: time.Now}
}

// pass reports whether a line may be written and how many were not before it.
func (t *throttle) pass(now time.Time, burst int) (suppressed int, ok bool) {
	if !now.Before(t.until) {
		t.until, t.lines = now.Add(reportEvery), 0
	}
	if t.lines >= burst {
		t.suppressed++
		return 0, false
	}
	t.lines++
	suppressed, t.suppressed = t.suppressed, 0
	return suppressed, true
}

// fault logs that a hook failed and its fallback was used.
func (r *reporter) fault(now time.Time, h hostabi.Hook, f *failure) {
	r.mu.Lock()
	suppressed, ok := r.hooks[h].pass(now, 1)
	r.mu.Unlock()
	if ok {
		r.log.Warn("policy hook failed, its fallback is used", "hook", h.String(), "result", f.result, "error", f.err, "suppressed", suppressed)
	}
}

// guest logs a line of the guest or of the host about it.
func (r *reporter) guest(level, msg string) {
	r.mu.Lock()
	suppressed, ok := r.guests.pass(r.now(), guestLines)
	r.mu.Unlock()
	if !ok {
		return
	}
	var l slog.Level
	if l.UnmarshalText([]byte(strings.ToUpper(level))) != nil {
		l = slog.LevelInfo
	}
	r.log.Log(context.Background(), l, "policy says", "message", msg, "suppressed", suppressed)
}

// flush logs how many lines were suppressed since the last.
func (r *reporter) flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for h := range r.hooks {
		if n := r.hooks[h].suppressed; n > 0 {
			r.log.Warn("policy hook failed, its fallback was used", "hook", hostabi.Hook(h).String(), "suppressed", n)
		}
	}
	if n := r.guests.suppressed; n > 0 {
		r.log.Warn("policy said more than is logged", "suppressed", n)
	}
}
