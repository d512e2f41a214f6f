package policy

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"weir/hostabi"
)

// reportEvery is the time in which one failure of each hook is logged.
const reportEvery = time.Second

// reporter logs what goes wrong in a policy, at a bounded rate.
type reporter struct {
	log *slog.Logger

	mu    sync.Mutex
	hooks [hostabi.NumHooks]throttle
}

// throttle lets one line through in every reportEvery and counts the others.
type throttle struct {
	until      time.Time
	suppressed int
}

func newReporter(log *slog.Logger, policy string) *reporter {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &reporter{log: log.With("policy", policy)}
}

// pass reports whether a line may be written and how many were not before it.
func (t *throttle) pass(now time.Time) (suppressed int, ok bool) {
	if now.Before(t.until) {
		t.suppressed++
		return 0, false
	}
	t.until = now.Add(reportEvery)
	suppressed, t.suppressed = t.suppressed, 0
	return suppressed, true
}

// fault logs that a hook failed and its fallback was used.
func (r *reporter) fault(now time.Time, h hostabi.Hook, f *failure) {
	r.mu.Lock()
	suppressed, ok := r.hooks[h].pass(now)
	r.mu.Unlock()
	if ok {
		r.log.Warn("policy hook failed, its fallback is used", "hook", h.String(), "result", f.result, "error", f.err, "suppressed", suppressed)
	}
}

// crowd logs that new keys find no room.
func (r *reporter) crowd(keys int, unasked int64) {
	r.log.Warn("policy has more event keys than may be cached, some of the new ones get the native default",
		"keys", keys, "max_keys", hostabi.MaxCachedKeys, "unasked", unasked,
		"remedy", "keys that are not used for 10 s make room; if they are a client's, find it by its event keys in GET /connections")
}

// guest logs a line of the guest or of the host about it; the host bounds how
// many there are.
func (r *reporter) guest(level, msg string) {
	var l slog.Level
	if l.UnmarshalText([]byte(strings.ToUpper(level))) != nil {
		l = slog.LevelInfo
	}
	r.log.Log(context.Background(), l, "policy says", "message", msg)
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
}
