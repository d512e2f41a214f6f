package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAsyncWriterKeepsOrder(t *testing.T) {
	var out bytes.Buffer
	w := newAsync(&out)
	for _, line := range []string{"a\n", "b\n", "c\n"} {
		if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	w.Close()
	if out.String() != "a\nb\nc\n" {
		t.Errorf("%q", &out)
	}
}

// Who does not read loses lines, is told how many and where, and delays nobody.
func TestAsyncWriterNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, out := io.Pipe()
		w := newAsync(out)
		_, _ = w.Write([]byte("first\n"))
		synctest.Wait() // it is stuck in the pipe
		line := []byte(strings.Repeat("x", 1023) + "\n")
		for range maxUnwritten>>10 + 2 {
			_, _ = w.Write(line)
		}
		_, _ = w.Write([]byte("small, but behind what is lost\n"))

		read := make([]byte, maxUnwritten+len("first\n"))
		if _, err := io.ReadFull(r, read); err != nil || !bytes.HasPrefix(read, []byte("first\nxxx")) {
			t.Errorf("%v, %.20q", err, read)
		}
		n, _ := r.Read(read)
		var told struct {
			Level, Msg string
			Lost       int
		}
		if err := json.Unmarshal(read[:n], &told); err != nil || told.Lost != 3 || told.Level != "WARN" {
			t.Errorf("%v, %s", err, read[:n])
		}

		go w.Close()
		synctest.Wait()
		_, _ = w.Write([]byte("too late\n"))
	})
}

func TestAsyncWriterIsNotWaitedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, out := io.Pipe()
		w := newAsync(out)
		_, _ = w.Write([]byte("nobody reads this\n"))
		start := time.Now()
		w.Close()
		if d := time.Since(start); d != flushTimeout {
			t.Errorf("it took %v", d)
		}
		r.Close()
	})
}
