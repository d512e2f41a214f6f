package main

import (
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// maxUnwritten is how much waits for who reads the log, in bytes: seconds of a
	// busy debug log.
	maxUnwritten = 1 << 20
	// flushTimeout is how long the last of it is waited for at the end.
	flushTimeout = time.Second
)

// asyncWriter passes on what is written to it in a goroutine of its own: who
// reads the log may stop, and Weir does not. Writes that do not fit are dropped
// whole, and a line in their place says how many they were.
type asyncWriter struct {
	out  io.Writer
	more chan struct{} // holds one when there is something to write or to end for
	done chan struct{} // closed when all is written

	mu      sync.Mutex
	waiting []byte
	lost    int // writes behind waiting
	closed  bool
}

// newAsync writes to out until Close.
func newAsync(out io.Writer) *asyncWriter {
	w := &asyncWriter{out: out, more: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run() // ends after Close
	return w
}

// Write implements io.Writer. It never waits and never fails.
func (w *asyncWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	if w.lost > 0 || len(w.waiting)+len(p) > maxUnwritten {
		w.lost++
	} else {
		w.waiting = append(w.waiting, p...)
	}
	w.mu.Unlock()
	w.wake()
	return len(p), nil
}

// Close waits until all is written, for flushTimeout at most.
func (w *asyncWriter) Close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.wake()
	select {
	case <-w.done:
	case <-time.After(flushTimeout):
	}
}

func (w *asyncWriter) wake() {
	select {
	case w.more <- struct{}{}:
	default:
	}
}

func (w *asyncWriter) run() {
	defer close(w.done)
	lines := slog.New(slog.NewJSONHandler(w.out, nil))
	var writing []byte
	for range w.more {
		w.mu.Lock()
		writing, w.waiting = w.waiting, writing[:0]
		lost, closed := w.lost, w.closed
		w.lost = 0
		w.mu.Unlock()
		if len(writing) > 0 {
			_, _ = w.out.Write(writing) // there is nowhere to tell of an error
		}
		if lost > 0 {
			lines.Warn("log lines lost, nobody read them", "lost", lost)
		}
		if closed {
			return
		}
	}
}
