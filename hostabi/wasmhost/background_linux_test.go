package wasmhost

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOnlyWhatRunsInTheBackgroundIsNice(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	nice := func() int {
		raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
		if err != nil {
			t.Fatal(err)
		}
		return 20 - raw
	}
	before, inside := nice(), 0
	laboriously(withBackground(t.Context()), func() { inside = nice() })
	if want := min(before+backgroundNice, maxNice); inside != want {
		t.Errorf("nice %d, want %d", inside, want)
	}
	if nice() != before {
		t.Errorf("nice %d after it, %d before", nice(), before)
	}
	again := make(chan int)
	go func() { again <- nice() }() // on whatever thread
	if n := <-again; n != before {
		t.Errorf("another goroutine is nice %d, want %d", n, before)
	}
}

func TestAPanicInTheBackgroundIsHandedOn(t *testing.T) {
	defer func() {
		if v := fmt.Sprint(recover()); !strings.HasPrefix(v, "at the disco\n") || !strings.Contains(v, "TestAPanicInTheBackgroundIsHandedOn") {
			t.Errorf("%s", v)
		}
	}()
	laboriously(withBackground(t.Context()), func() { panic("at the disco") })
}
