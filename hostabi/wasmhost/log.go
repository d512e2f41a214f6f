package wasmhost

import (
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"weir/hostabi"
)

// Rate of log lines of one policy.
const (
	logBurst = 50
	logEvery = 100 * time.Millisecond // one more line each
	logTold  = time.Second            // after which suppressed ones are told though no other line comes
)

// logger passes lines to Options.Log at a bounded rate, and counts the rest. The
// guest and the host each have one, so that neither silences the other.
type logger struct {
	sink func(level, msg string)
	now  func() time.Duration

	mu         sync.Mutex
	used       time.Duration // each line uses logEvery; ahead of now there is none left
	suppressed int
	timer      *time.Timer // until that is told; nil: there is nothing to tell
	closed     bool
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
	ok := l.take()
	n := 0
	if ok {
		n = l.forget()
	} else {
		l.suppressed++
		l.tellLater()
	}
	l.mu.Unlock()
	l.told(n)
	return ok
}

// take uses the room for one line, if there is any. l.mu is held.
func (l *logger) take() bool {
	now := l.now()
	l.used = max(l.used, now-logBurst*logEvery)
	if l.used+logEvery > now {
		return false
	}
	l.used += logEvery
	return true
}

func (l *logger) forget() int {
	n := l.suppressed
	l.suppressed = 0
	return n
}

// tellLater has a line written when the guest has become quiet. l.mu is held.
func (l *logger) tellLater() {
	if l.timer != nil || l.closed {
		return
	}
	l.timer = time.AfterFunc(logTold, func() { l.told(l.over()) })
}

// over returns how many lines were suppressed when there is room for one that
// says so; else it is told later.
func (l *logger) over() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = nil
	if l.suppressed > 0 && !l.take() {
		l.tellLater()
		return 0
	}
	return l.forget()
}

// close tells what was suppressed. Afterwards only another line does.
func (l *logger) close() {
	l.mu.Lock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	n := l.forget()
	l.mu.Unlock()
	l.told(n)
}

func (l *logger) told(n int) {
	if n > 0 {
		l.sink("warn", fmt.Sprintf("%d log lines of this policy were suppressed", n))
	}
}

// printable is a line that cannot break or disguise a log.
func printable(b []byte) string {
	for range utf8.UTFMax - 1 { // of a rune that was cut
		if r, n := utf8.DecodeLastRune(b); r == utf8.RuneError && n == 1 {
			b = b[:len(b)-1]
		}
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError { // overrides of direction, too
			return ' '
		}
		return r
	}, string(b))
}
