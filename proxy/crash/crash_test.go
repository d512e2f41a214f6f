package crash

import (
	"runtime"
	"strings"
	"testing"
)

func TestContain(t *testing.T) {
	var told []any
	r := Report(func(v any, stack []byte) {
		told = append(told, v)
		if !strings.Contains(string(stack), "crash.explode") {
			t.Errorf("the stack does not show where: %s", stack)
		}
	})
	if !r.Contain(func() {}) || len(told) != 0 {
		t.Errorf("nothing happened, and %v was told", told)
	}
	if r.Contain(explode) || len(told) != 1 || told[0] != "boom" {
		t.Errorf("told %v", told)
	}
}

func explode() { panic("boom") }

// Without a report nothing is hidden.
func TestWithoutAReportPanicsGoOn(t *testing.T) {
	defer func() {
		if v := recover(); v != "boom" {
			t.Errorf("got %v", v)
		}
	}()
	Report(nil).Contain(explode)
}

func TestAReportThatPanicsEndsNothing(t *testing.T) {
	if Report(func(any, []byte) { panic("again") }).Contain(explode) {
		t.Error("ok")
	}
	Report(nil).Tell("x", nil)
}

// Goexit, as a test's FailNow calls it, is no panic.
func TestGoexitIsNoPanic(t *testing.T) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Report(func(v any, _ []byte) { t.Errorf("told %v", v) }).Contain(runtime.Goexit)
		t.Error("Goexit was stopped")
	}()
	<-ended
}
