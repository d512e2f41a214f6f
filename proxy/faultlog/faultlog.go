// Package faultlog writes to the log what Weir refuses and loses, in few lines: a
// flood of refusals is no flood of lines.
package faultlog

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
	perSecond = 5           // lines of one kind, for the whole process
	atOnce    = 10          // of one kind
	toldAfter = time.Second // after which suppressed ones are told though no other line comes
	maxKinds  = 64          // beyond, kinds share one; there are as many as codes, and a few
)

// Log has of each kind of fault at most a few lines a second written, so that a flood
// of one hides no other. A line says how many of its kind were suppressed before it;
// when none comes, a line of its own does. One serves all tunnels and exchanges; its
// methods may be called from any goroutine.
type Log struct {
	log *slog.Logger

	mu     sync.Mutex
	kinds  map[hostabi.FaultCode]*kind
	closed bool
}

// kind is a fault code, or the message of lines that have none.
type kind struct {
	name       hostabi.FaultCode
	limit      *rate.Limiter
	suppressed int64
	timer      *time.Timer // until what is suppressed is told; nil: nothing is
}

// New returns a Log that writes to log.
func New(log *slog.Logger) *Log {
	return &Log{log: log, kinds: make(map[hostabi.FaultCode]*kind)}
}

// Allow tells whether one more line may be written about code, and how many were
// suppressed since the last.
func (l *Log) Allow(now time.Time, code hostabi.FaultCode) (suppressed int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.kindOf(code)
	if !k.limit.AllowN(now, 1) {
		k.suppressed++
		l.tellLater(k)
		return 0, false
	}
	return k.forget(), true
}

// Warn writes one line, or counts it as suppressed among those with its message.
func (l *Log) Warn(now time.Time, msg string, args ...any) {
	if n, ok := l.Allow(now, hostabi.FaultCode(msg)); ok {
		l.log.Warn(msg, append(args, "suppressed", n)...)
	}
}

// Close tells what was suppressed. Afterwards nothing else does.
func (l *Log) Close() {
	l.mu.Lock()
	l.closed = true
	rest := make(map[hostabi.FaultCode]int64)
	for _, k := range l.kinds {
		if k.timer != nil {
			k.timer.Stop()
		}
		rest[k.name] = k.forget()
	}
	l.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		l.told(name, rest[name])
	}
}

func (l *Log) kindOf(code hostabi.FaultCode) *kind {
	k := l.kinds[code]
	if k == nil && len(l.kinds) >= maxKinds-1 {
		code = "other"
		k = l.kinds[code]
	}
	if k == nil {
		k = &kind{name: code, limit: rate.NewLimiter(perSecond, atOnce)}
		l.kinds[code] = k
	}
	return k
}

func (k *kind) forget() int64 {
	n := k.suppressed
	k.suppressed = 0
	return n
}

// tellLater has a line written when the flood is over. l.mu is held.
func (l *Log) tellLater(k *kind) {
	if k.timer != nil || l.closed {
		return
	}
	k.timer = time.AfterFunc(toldAfter, func() {
		defer func() { _ = recover() }() // a line that is lost is all that is lost
		l.told(k.name, l.over(k))
	})
}

// over returns how many were suppressed when the flood is over; else they are
// told later.
func (l *Log) over(k *kind) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.timer = nil
	if k.suppressed > 0 && !k.limit.AllowN(time.Now(), 1) {
		l.tellLater(k)
		return 0
	}
	return k.forget()
}

// told writes the line of n faults. l.mu is not held: a log may be slow.
func (l *Log) told(name hostabi.FaultCode, n int64) {
	if n > 0 {
		l.log.Warn("faults suppressed", "code", string(name), "suppressed", n)
	}
}
