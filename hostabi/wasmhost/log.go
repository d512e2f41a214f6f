package wasmhost

import (
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"weir/hostabi"
)

// Rate of log lines of one policy.
const (
	logBurst = 50
	logEvery = 100 * time.Millisecond // one more line each
)

// logger passes lines to Options.Log at a bounded rate, and counts the rest. The
// guest and the host each have one, so that neither silences the other.
type logger struct {
	sink func(level, msg string)
	now  func() time.Duration

	mu         sync.Mutex
	used       time.Duration // each line uses logEvery; ahead of now there is none left
	suppressed int
}

func newLogger(sink func(level, msg string), now func() time.Duration) *logger {
	l := &logger{now: now, used: -logBurst * logEvery}
	if sink != nil {
		l.sink = func(level, msg string) {
			defer func() { _ = recover() }() // a line that is lost loses no instance
			sink(level, msg)
		}
	}
	return l
}

// line logs what a guest wrote, cut at hostabi.MaxLogLine.
func (l *logger) line(level string, line []byte) {
	if l.allow() {
		l.sink(level, "guest: "+printable(line[:min(len(line), hostabi.MaxLogLine)]))
	}
}

// say logs a remark of the host's.
func (l *logger) say(level, msg string) {
	if l.allow() {
		l.sink(level, msg)
	}
}

// allow says whether a line may be logged now.
func (l *logger) allow() bool {
	if l.sink == nil {
		return false
	}
	l.mu.Lock()
	now := l.now()
	l.used = max(l.used, now-logBurst*logEvery)
	if l.used+logEvery > now {
		l.suppressed++
		l.mu.Unlock()
		return false
	}
	l.used += logEvery
	n := l.suppressed
	l.suppressed = 0
	l.mu.Unlock()
	if n > 0 {
		l.sink("warn", fmt.Sprintf("%d log lines of this policy were suppressed", n))
	}
	return true
}

// printable is a line that cannot break or disguise a log.
func printable(b []byte) string {
	for range utf8.UTFMax - 1 { // of a rune that was cut
		if r, n := utf8.DecodeLastRune(b); r == utf8.RuneError && n == 1 {
			b = b[:len(b)-1]
		}
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F || r >= 0x80 && r < 0xA0 || r == utf8.RuneError {
			return ' '
		}
		return r
	}, string(b))
}
