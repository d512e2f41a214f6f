//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// output is what a process has written so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// logs are the lines that a Weir has logged: each must be a JSON object.
type logs struct {
	t     *testing.T
	mu    sync.Mutex
	lines []line
	more  chan struct{} // closed when there is another line
	ended bool
}

type line map[string]any

func newLogs(t *testing.T) *logs { return &logs{t: t, more: make(chan struct{})} }

func (l *logs) read(r io.Reader) {
	br := bufio.NewReader(r)
	for {
		text, err := br.ReadBytes('\n')
		var one line
		if len(text) > 0 && json.Unmarshal(text, &one) != nil {
			one = line{"not JSON": string(text)}
			if !bytes.HasPrefix(text, []byte("weir run: ")) && !bytes.Contains(text, []byte("gateway.toml:")) {
				l.t.Errorf("neither JSON nor why it ends: %q", text)
			}
		}
		l.mu.Lock()
		if len(text) > 0 {
			l.lines = append(l.lines, one)
		}
		l.ended = err != nil
		close(l.more)
		l.more = make(chan struct{})
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// has reports whether the line has every key=value of want; a value ending in *
// is a prefix.
func (l line) has(want []string) bool {
	for _, w := range want {
		key, value, _ := strings.Cut(w, "=")
		got, ok := l[key]
		if !ok {
			return false
		}
		text, isText := got.(string)
		if !isText {
			b, _ := json.Marshal(got)
			text = string(b)
		}
		if prefix, cut := strings.CutSuffix(value, "*"); cut {
			if !strings.HasPrefix(text, prefix) {
				return false
			}
		} else if text != value {
			return false
		}
	}
	return true
}

// all returns the lines so far that have want.
func (l *logs) all(want ...string) (found []line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range l.lines {
		if one.has(want) {
			found = append(found, one)
		}
	}
	return found
}

// wait returns the first line that has want.
func (l *logs) wait(what string, want ...string) line { return l.waitFor(what, 1, want...) }

// waitFor returns the nth line that has want.
func (l *logs) waitFor(what string, n int, want ...string) line {
	l.t.Helper()
	for over := time.After(patience); ; {
		l.mu.Lock()
		more, ended := l.more, l.ended
		l.mu.Unlock()
		if found := l.all(want...); len(found) >= n {
			return found[n-1]
		}
		if ended {
			l.t.Fatalf("weir ended without a log line %q (%s):\n%s", want, what, l)
		}
		select {
		case <-more:
		case <-over:
			l.t.Fatalf("waited %v for a log line %q (%s)", patience, want, what)
		}
	}
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, one := range l.lines {
		text, _ := json.Marshal(one)
		b.Write(append(text, '\n'))
	}
	return b.String()
}
