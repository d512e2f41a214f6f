package relay

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"weir/hostabi"
)

const (
	faultLines   = 5           // a second of one kind, for the whole process
	faultsAtOnce = 10          // of one kind
	faultsTold   = time.Second // after which suppressed ones are told though no other line comes
	faultKinds   = 64          // beyond, kinds share one; there are as many as codes, and a few
)

// FaultLog writes refusals to the log, of each kind at most a few a second, so
// that a flood of one hides no other. A line says how many of its kind were
// suppressed before it; when none comes, a line of its own does. One serves all
// tunnels.
type FaultLog struct {
	log *slog.Logger

	mu     sync.Mutex
	kinds  map[hostabi.FaultCode]*faultKind
	closed bool
}

// faultKind is a fault code, or the message of lines that have none.
type faultKind struct {
	name       hostabi.FaultCode
	limit      *rate.Limiter
	suppressed int64
	timer      *time.Timer // until what is suppressed is told; nil: nothing is
}

// NewFaultLog returns a FaultLog that writes to log.
func NewFaultLog(log *slog.Logger) *FaultLog {
	return &FaultLog{log: log, kinds: make(map[hostabi.FaultCode]*faultKind)}
}

// Allow tells whether one more line may be written about code, and how many were
// suppressed since the last.
func (f *FaultLog) Allow(now time.Time, code hostabi.FaultCode) (suppressed int64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := f.kind(code)
	if !k.limit.AllowN(now, 1) {
		k.suppressed++
		f.tellLater(k)
		return 0, false
	}
	return k.forget(), true
}

// Warn writes one line, or counts it as suppressed among those with its message.
func (f *FaultLog) Warn(now time.Time, msg string, args ...any) {
	if n, ok := f.Allow(now, hostabi.FaultCode(msg)); ok {
		f.log.Warn(msg, append(args, "suppressed", n)...)
	}
}

// Close tells what was suppressed. Afterwards nothing else does.
func (f *FaultLog) Close() {
	f.mu.Lock()
	f.closed = true
	rest := make(map[hostabi.FaultCode]int64)
	for _, k := range f.kinds {
		if k.timer != nil {
			k.timer.Stop()
		}
		rest[k.name] = k.forget()
	}
	f.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		f.told(name, rest[name])
	}
}

func (f *FaultLog) kind(code hostabi.FaultCode) *faultKind {
	k := f.kinds[code]
	if k == nil && len(f.kinds) >= faultKinds-1 {
		code = "other"
		k = f.kinds[code]
	}
	if k == nil {
		k = &faultKind{name: code, limit: rate.NewLimiter(faultLines, faultsAtOnce)}
		f.kinds[code] = k
	}
	return k
}

func (k *faultKind) forget() int64 {
	n := k.suppressed
	k.suppressed = 0
	return n
}

// tellLater has a line written when the flood is over. f.mu is held.
func (f *FaultLog) tellLater(k *faultKind) {
	if k.timer != nil || f.closed {
		return
	}
	k.timer = time.AfterFunc(faultsTold, func() {
		defer func() { _ = recover() }() // a line that is lost is all that is lost
		f.told(k.name, f.over(k))
	})
}

// over returns how many were suppressed when the flood is over; else they are
// told later.
func (f *FaultLog) over(k *faultKind) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	k.timer = nil
	if k.suppressed > 0 && !k.limit.AllowN(time.Now(), 1) {
		f.tellLater(k)
		return 0
	}
	return k.forget()
}

// told writes the line of n faults. f.mu is not held: a log may be slow.
func (f *FaultLog) told(name hostabi.FaultCode, n int64) {
	if n > 0 {
		f.log.Warn("faults suppressed", "code", string(name), "suppressed", n)
	}
}
