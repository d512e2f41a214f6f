package poll

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"weir/proxy/leak"
)

// TestMain fails when a loop outlives its poller.
func TestMain(m *testing.M) { leak.Exit(m.Run(), leak.Goroutines("poll.(*loop)")) }

type handler func(leave func(), e Events)

func (h handler) Ready(leave func(), e Events) Turn {
	h(leave, e)
	return Short
}

func newPoller(t testing.TB, loops int) *Poller {
	t.Helper()
	p, err := New(loops, func(v any, _ []byte) { t.Errorf("panic: %v", v) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// sockets returns two connected non-blocking sockets.
func sockets(t testing.TB) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fds[0]); _ = unix.Close(fds[1]) })
	return fds[0], fds[1]
}

func write(t testing.TB, fd int, s string) {
	t.Helper()
	if _, err := unix.Write(fd, []byte(s)); err != nil {
		t.Fatal(err)
	}
}

func TestReadableIsToldUntilItIsRead(t *testing.T) {
	a, b := sockets(t)
	got := make(chan string, 10)
	var s *Source
	s = newPoller(t, 1).Add(a, nil, handler(func(_ func(), e Events) {
		var one [1]byte
		if n, _ := unix.Read(a, one[:]); n == 1 && e&Readable != 0 {
			got <- string(one[:])
			return
		}
		s.Remove()
		got <- "end"
	}))
	if err := s.Arm(Readable); err != nil {
		t.Fatal(err)
	}
	write(t, b, "xyz")
	_ = unix.Shutdown(b, unix.SHUT_WR)
	for _, want := range []string{"x", "y", "z", "end"} {
		if s := <-got; s != want {
			t.Errorf("got %q, want %q", s, want)
		}
	}
}

func TestWritableIsToldWhenAskedFor(t *testing.T) {
	a, _ := sockets(t)
	got := make(chan Events, 10)
	var s *Source
	s = newPoller(t, 1).Add(a, nil, handler(func(_ func(), e Events) {
		_ = s.Unwant(Writable)
		got <- e
	}))
	for range 2 {
		if err := s.Want(Writable); err != nil {
			t.Fatal(err)
		}
		if e := <-got; e != Writable {
			t.Errorf("got %v", e)
		}
	}
	s.Remove()
}

// A handler that has to wait leaves its loop, and everybody else on the loop is
// served meanwhile, also those whose readiness was taken along with its own.
func TestWhoWaitsLeavesTheLoop(t *testing.T) {
	p := newPoller(t, 1)
	const others = 20
	release := make(chan struct{})
	served := make(chan int, others)
	var waited atomic.Bool
	var first *Source
	for i := range others + 1 {
		a, b := sockets(t)
		var s *Source
		s = p.Add(a, first, handler(func(leave func(), _ Events) {
			_ = s.Arm(0)
			if i == 0 {
				leave()
				leave()
				<-release
				waited.Store(true)
			}
			served <- i
		}))
		t.Cleanup(s.Remove)
		if i == 0 {
			first = s
		}
		write(t, b, "x")
		if err := s.Arm(Readable); err != nil {
			t.Fatal(err)
		}
	}
	for range others {
		if i := <-served; i == 0 {
			t.Error("the one that waits was served")
		}
	}
	close(release)
	if i := <-served; i != 0 || !waited.Load() {
		t.Errorf("%d was served last", i)
	}
}

func TestARemovedSourceIsNotArmedAgain(t *testing.T) {
	p := newPoller(t, 1)
	a, b := sockets(t)
	s := p.Add(a, nil, handler(func(func(), Events) { t.Error("told after its removal") }))
	s.Remove()
	if err := s.Arm(Readable); err != nil {
		t.Error(err)
	}
	write(t, b, "x")
	// Its slot is used again; what is armed there is told of, and only that.
	got := make(chan bool, 1)
	c, d := sockets(t)
	var next *Source
	next = p.Add(c, s, handler(func(func(), Events) { next.Remove(); got <- true }))
	if next.slot != s.slot {
		t.Errorf("slot %d, was %d", next.slot, s.slot)
	}
	write(t, d, "x")
	if err := next.Arm(Readable); err != nil {
		t.Fatal(err)
	}
	<-got
}

func TestAHangUpIsAllThatIsAskedFor(t *testing.T) {
	p := newPoller(t, 1)
	for asked, want := range map[Events]Events{
		Readable:            Readable | HungUp,
		Writable:            Writable,
		Readable | Writable: Readable | Writable | HungUp,
	} {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[0])
		_ = unix.Close(fds[1])
		for _, add := range []func(int, *Source, Handler) *Source{p.Add, p.AddEdge} {
			got := make(chan Events, 1)
			var s *Source
			s = add(fds[0], nil, handler(func(_ func(), e Events) { s.Remove(); got <- e }))
			if err := s.Arm(asked); err != nil {
				t.Fatal(err)
			}
			if e := <-got; e != want {
				t.Errorf("asked for %b: told %b, want %b", asked, e, want)
			}
		}
	}
}

// A handler that panics is taken off its loop; those that were ready along with
// it, and all others, are served as before. One that has left its loop already
// takes nobody with it either.
func TestAPanicEndsOneHandlersTurn(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		told := make(chan string, 10)
		p, err := New(1, func(v any, stack []byte) {
			if !strings.Contains(string(stack), "TestAPanicEndsOneHandlersTurn") {
				t.Errorf("the stack does not show where: %s", stack)
			}
			told <- fmt.Sprint(v)
		})
		if err != nil {
			t.Fatal(err)
		}
		const others = 20
		served := make(chan int, 10*others)
		ready, release := make(chan struct{}), make(chan struct{})
		var near *Source
		var ends []int
		for i := range others + 2 {
			a, b := sockets(t)
			s := p.Add(a, near, handler(func(leave func(), _ Events) {
				switch i {
				case 0: // holds the loop until all are ready
					close(ready)
					<-release
					_, _ = unix.Read(a, make([]byte, 1))
				case 1:
					if leaves {
						leave()
					}
					panic("made to")
				default:
					_, _ = unix.Read(a, make([]byte, 1))
					served <- i
				}
			}))
			defer s.Remove()
			near, ends = s, append(ends, b)
			if err := s.Arm(Readable); err != nil {
				t.Fatal(err)
			}
			write(t, b, "x")
			if i == 0 {
				<-ready
			}
		}
		close(release)
		for range others {
			<-served
		}
		if v := <-told; v != "made to" {
			t.Errorf("told %q", v)
		}
		for i, b := range ends[2:] { // again
			write(t, b, "x")
			if got := <-served; got != i+2 {
				t.Errorf("%d was served, not %d", got, i+2)
			}
		}
		p.Close()
		if !leaves && len(told) > 0 {
			t.Errorf("it was called again: %q", <-told)
		}
		for len(told) > 0 {
			if v := <-told; v != "made to" {
				t.Errorf("told %q", v)
			}
		}
	}
}
