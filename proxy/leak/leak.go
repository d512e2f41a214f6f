// Package leak is for tests: it fails those of a package that leave goroutines
// behind.
package leak

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// patience is how long what is ending may take.
const patience = 5 * time.Second

// Exit ends a TestMain with the code of its tests. When they have passed, none of
// looks may find anything that is left, at the latest after a while.
func Exit(code int, looks ...func() string) {
	if code == 0 {
		if left := wait(patience, looks); left != "" {
			fmt.Fprintln(os.Stderr, "left over:\n"+left)
			code = 1
		}
	}
	os.Exit(code)
}

// wait returns what is left when nothing is, or patience is over.
func wait(patience time.Duration, looks []func() string) string {
	for end := time.Now().Add(patience); ; runtime.Gosched() {
		var all []string
		for _, look := range looks {
			if left := look(); left != "" {
				all = append(all, left)
			}
		}
		if len(all) == 0 || time.Now().After(end) {
			return strings.Join(all, "\n\n")
		}
	}
}

// Goroutines looks for those, but the one that looks, whose stacks have mark in
// them.
func Goroutines(mark string) func() string {
	return func() string {
		buf := make([]byte, 4<<20)
		var left []string
		for i, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if i > 0 && strings.Contains(g, mark) {
				left = append(left, g)
			}
		}
		return strings.Join(left, "\n\n")
	}
}
