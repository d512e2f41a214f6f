package main

import (
	"bytes"
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
// whole, and a line in their place says how many they were, or that could not be written.
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
	o := lineWriter{out: w.out}
	var writing []byte
	for range w.more {
		w.mu.Lock()
		writing, w.waiting = w.waiting, writing[:0]
		lost, closed := w.lost, w.closed
		w.lost = 0
		w.mu.Unlock()
		o.tell()
		o.write(writing)
		o.lost += lost
		o.tell()
		if closed {
			return
		}
	}
}

// lineWriter writes lines to what may fail for a while, as a full disk does.
type lineWriter struct {
	out  io.Writer
	lost int  // lines that are not written, and not told of
	torn bool // the last one written is without its end
}

// write writes lines, and counts those that do not get there whole.
func (w *lineWriter) write(lines []byte) {
	if w.torn && len(lines) > 0 {
		_, err := w.out.Write([]byte{'\n'})
		w.torn = err != nil
	}
	n := 0
	if !w.torn && len(lines) > 0 {
		n, _ = w.out.Write(lines)
		w.torn = n > 0 && lines[n-1] != '\n'
	}
	w.lost += bytes.Count(lines[n:], []byte{'\n'})
}

// tell says how many lines are lost, in their place.
func (w *lineWriter) tell() {
	lost := w.lost
	if lost == 0 {
		return
	}
	var line bytes.Buffer
	slog.New(slog.NewJSONHandler(&line, nil)).Warn("log lines lost, nobody took them", "lost", lost)
	w.lost = 0
	if w.write(line.Bytes()); w.lost > 0 {
		w.lost = lost
	}
}
