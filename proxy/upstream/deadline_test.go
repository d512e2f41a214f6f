package upstream

import (
	"errors"
	"os"
	"testing"
	"time"

	"weir/proxy/config"
	"weir/proxy/nettest"
	"weir/proxy/poll"
)

// A deadline may pass between two reads, when the upstream sends a byte now and
// then: what is there is read, and the wait for more ends the exchange.
func TestADeadlineBetweenReads(t *testing.T) {
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		p.send("x")
		_ = p.ended()
	}))
	c, err := u.targets[0].dial(nil, patience, func(func()) {})
	if err != nil {
		t.Fatal(err)
	}
	defer c.nc.Close()
	e := &Exchange{u: u, timeout: time.Millisecond}
	if !e.attach(c, nil) {
		t.Fatal("not attached")
	}
	defer c.dropReader()
	if err := c.nc.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if err := c.raw.Read(func(fd uintptr) bool { // until the byte is here
		c.gone = false
		c.testFD(fd)
		return c.gone
	}); err != nil {
		t.Fatal(err)
	}
	e.began = time.Now().Add(-time.Second)
	if err := c.arm(e.due(time.Now()), time.Now()); err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 2)
	go func() {
		var b [10]byte
		n, err := c.Read(b[:])
		if n != 1 {
			err = errors.Join(err, errors.New("the byte was not read"))
		}
		read <- err
		_, err = c.Read(b[:])
		read <- err
	}()
	if err := nettest.Within(t, read, "the first read"); err != nil {
		t.Error(err)
	}
	if err := nettest.Within(t, read, "the second read"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the second read: %v", err)
	}
}

// How long a request body has not moved is no matter of the wall clock, which
// may be set back.
func TestProgressIsMonotonic(t *testing.T) {
	s := &sender{began: time.Now()}
	s.last.Store(int64(time.Second))
	if last, _ := s.progress(); last == last.Round(0) || last.Sub(s.began) != time.Second {
		t.Errorf("%v after %v", last, s.began)
	}
}

// Weir was stopped, and an answer that came meanwhile is not read yet: the wait that is
// found over so late lasts a little longer, once.
func TestALateTickIsPutOff(t *testing.T) {
	f := func(waited time.Duration, want error) {
		t.Helper()
		began := time.Now()
		e := &Exchange{timeout: 10 * time.Second, began: began}
		due, err := e.tick(began.Add(waited))
		if !errors.Is(err, want) {
			t.Errorf("after %v: %v, want %v", waited, err, want)
		}
		if err != nil {
			return
		}
		if now := began.Add(max(waited, e.timeout)); !due.After(began.Add(waited)) || due.After(now.Add(poll.Late)) {
			t.Errorf("after %v: looked at again in %v", waited, due.Sub(began))
		}
		if _, err := e.tick(due); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("at %v: %v, want it over", due.Sub(began), err)
		}
	}
	f(9*time.Second, nil)
	f(10*time.Second, os.ErrDeadlineExceeded)
	f(11*time.Second, os.ErrDeadlineExceeded)
	f(12*time.Second, nil)
	f(time.Hour, nil)
}

// Weir was stopped, and a target that answered meanwhile is not put aside for that: the
// dial that is found over so late is made once more.
func TestALateDialIsMadeAgain(t *testing.T) {
	f := func(over time.Duration, want int) {
		t.Helper()
		u := to(t, config.Upstream{ConnectTimeout: -over}, refusing(t)) // it is over as it begins
		addr, dials := u.targets[0].addr, 0
		u.targets[0].addr = func() string { dials++; return addr() }
		if expectKind(t, u, request("/", nil), Unavailable); dials != want {
			t.Errorf("over for %v: dialled %d times, want %d", over, dials, want)
		}
	}
	f(time.Millisecond, 1)
	f(time.Hour, 2)
}
