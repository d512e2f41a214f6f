package leak

import (
	"strings"
	"testing"
	"time"
)

func stays(here chan<- struct{}, until <-chan struct{}) {
	here <- struct{}{}
	<-until
}

// What is left is found; what ends meanwhile is waited for.
func TestWhatIsLeftIsFound(t *testing.T) {
	look := []func() string{Goroutines("leak.stays")}
	if left := wait(0, look); left != "" {
		t.Errorf("before any is there: %s", left)
	}
	here, until := make(chan struct{}), make(chan struct{})
	go stays(here, until)
	<-here
	if left := wait(0, look); strings.Count(left, "leak.stays") == 0 {
		t.Errorf("while one is there: %q", left)
	}
	asked := 0
	look = append(look, func() string {
		if asked++; asked == 2 {
			close(until)
		}
		return ""
	})
	if left := wait(time.Minute, look); left != "" || asked < 2 {
		t.Errorf("when it has ended: %q", left)
	}
	if left := wait(0, []func() string{func() string { return "a" }, func() string { return "b" }}); left != "a\n\nb" {
		t.Errorf("%q", left)
	}
}
