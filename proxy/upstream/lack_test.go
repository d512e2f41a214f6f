package upstream

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"weir/proxy/config"
	"weir/proxy/poll"
)

// withoutDescriptors runs f while no file can be opened.
func withoutDescriptors(t *testing.T, f func()) {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	none := l
	none.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
			t.Error(err)
		}
	}()
	f()
}

func TestWhatWeirLacksIsNoWordAboutATarget(t *testing.T) {
	dials := []Options{{}}
	if loops, err := poll.New(1, nil); err == nil {
		t.Cleanup(loops.Close)
		dials = append(dials, Options{Loops: loops})
	} else if !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
	for _, o := range dials {
		u, err := New(&config.Upstream{Name: "test", URLs: []string{refusing(t)}}, o)
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		withoutDescriptors(t, func() {
			e := expectKind(t, u, request("/", nil), Unavailable)
			if !strings.Contains(e.Error(), "weir lacks file descriptors") {
				t.Error(e)
			}
			for range healthFails {
				u.targets[0].checked(u.check(u.targets[0], "/"))
			}
		})
		if !u.Status()[0].Healthy {
			t.Error("the target was put aside")
		}
	}
}
