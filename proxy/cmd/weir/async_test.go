package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"syscall"
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

// disk takes as many bytes as it has room for.
type disk struct {
	bytes.Buffer
	room int
}

func (d *disk) Write(p []byte) (int, error) {
	n := min(len(p), d.room)
	d.room -= n
	d.Buffer.Write(p[:n])
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// A disk that was full has whole lines afterwards, and one that says how many it lacks.
func TestLinesThatAreNotWrittenAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{room: 7}
		w := newAsync(d)
		put := func(lines string) {
			_, _ = w.Write([]byte(lines))
			synctest.Wait()
		}
		put("1234\n")
		put("cut\n")
		put("no\nroom\n")
		d.room = 1 << 10
		put("room\n")
		w.Close()
		lines := strings.Split(d.String(), "\n")
		var told struct{ Lost int }
		if len(lines) != 5 || lines[0] != "1234" || lines[1] != "cu" || lines[3] != "room" {
			t.Fatalf("%q", lines)
		}
		if err := json.Unmarshal([]byte(lines[2]), &told); err != nil || told.Lost != 3 {
			t.Errorf("%v, %s", err, lines[2])
		}
	})
}
