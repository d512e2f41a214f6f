package http1

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails when goroutines of this package outlive its tests.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leaked(2 * time.Second); code == 0 && left != "" {
		fmt.Fprintln(os.Stderr, "goroutines left over:\n"+left)
		code = 1
	}
	os.Exit(code)
}

// leaked waits until no goroutine but this one runs Weir's code, and returns
// the stacks of those that still do at the deadline.
func leaked(patience time.Duration) string {
	deadline := time.Now().Add(patience)
	buf := make([]byte, 1<<20)
	for {
		var left []string
		for i, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if i > 0 && strings.Contains(g, "weir/proxy/") {
				left = append(left, g)
			}
		}
		if len(left) == 0 {
			return ""
		}
		if time.Now().After(deadline) {
			return strings.Join(left, "\n\n")
		}
		runtime.Gosched()
	}
}
