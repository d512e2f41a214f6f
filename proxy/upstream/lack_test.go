package upstream

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"weir/proxy/config"
	"weir/proxy/nettest"
	"weir/proxy/poll"
)

// withoutDescriptors runs f while no file can be opened, whatever is closed.
func withoutDescriptors(t *testing.T, f func()) {
	t.Helper()
	withDescriptors(t, 0, f)
}

// withDescriptors runs f while descriptors must be below most.
func withDescriptors(t *testing.T, most uint64, f func()) {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	none := l
	none.Cur = most
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
			fails := 0
			for range healthFails {
				u.targets[0].checked(u.check(u.targets[0], "/"), &fails)
			}
		})
		if !u.Status()[0].Healthy {
			t.Error("the target was put aside")
		}
	}
}

// What lies idle is given up where descriptors are needed, of another upstream too.
func TestIdleConnectionsAreSpared(t *testing.T) {
	accepted := make(chan error, 3)
	answering := func() string {
		return backend(t, func(p *peer) {
			accepted <- nil
			p.head()
			p.answer("ok")
			_ = p.ended()
		})
	}
	idle := to(t, config.Upstream{}, answering())
	spared := 0
	u, err := New(&config.Upstream{Name: "test", URLs: []string{answering()}}, Options{Spare: func() bool {
		spared++
		return idle.Spare()
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for range 2 { // one more for the backend, which accepts
		idle.targets[0].put(connection(t, idle))
		_ = nettest.Within(t, accepted, "the connection")
	}
	lowest, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	most := uint64(lowest.Fd())
	_ = lowest.Close()
	withDescriptors(t, most, func() {
		expectFetch(t, u, request("/", nil), "ok")
	})
	if n := idle.Status()[0].Idle; n != 0 || spared != 1 {
		t.Errorf("spared %d times, %d are idle", spared, n)
	}
}

// connection is one to u that no exchange was on.
func connection(t *testing.T, u *Upstream) *conn {
	t.Helper()
	c, err := u.targets[0].dial(nil, patience, func(func()) {})
	if err != nil {
		t.Fatal(err)
	}
	c.keep = idleExpiry
	return c
}
