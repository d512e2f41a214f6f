package sock

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"weir/proxy/nettest"
)

// silent is an address that answers nobody, as where a machine is off or a firewall drops:
// it takes no connection beyond those that wait for it.
func silent(t *testing.T) netip.AddrPort {
	t.Helper()
	l := nettest.Listen(t)
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) })
	if err != nil {
		t.Fatal(err)
	}
	nettest.Dial(t, l.Addr().String())
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestAnAddressThatDoesNotAnswerLeavesTimeForOthers(t *testing.T) {
	answers := nettest.Listen(t).Addr().(*net.TCPAddr).AddrPort()
	refuses := netip.MustParseAddrPort(nettest.Refusing(t))
	try := func(limit time.Duration, addrs []netip.AddrPort) (*net.TCPConn, error) {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		return dialAny(ctx, addrs)
	}
	f := func(limit time.Duration, wins bool, addrs ...netip.AddrPort) {
		t.Helper()
		c, err := try(limit, addrs)
		for tries := 1; wins && err != nil && tries < 3; tries++ {
			c, err = try(limit, addrs) // this machine may have stood still
		}
		switch {
		case !wins && (c != nil || err == nil):
			t.Errorf("%v: connected", addrs)
		case wins && err != nil:
			t.Errorf("%v: %v", addrs, err)
		case wins:
			defer c.Close()
			if got := c.RemoteAddr().String(); got != answers.String() {
				t.Errorf("connected to %s", got)
			}
		}
	}
	f(patience, true, answers)
	f(patience, true, refuses, answers)
	f(patience, true, silent(t), silent(t), answers)
	f(patience, true, answers, silent(t))
	f(time.Second, true, silent(t), answers)
	f(time.Second, true, silent(t), silent(t), refuses, silent(t), silent(t), answers) // less than 250 ms for each
	f(100*time.Millisecond, false, silent(t), refuses)
	f(100*time.Millisecond, false, silent(t))
	f(patience, false, refuses, refuses)
}

// One that answers must have the time for that, however many there are.
func TestEachAddressHasTimeToAnswer(t *testing.T) {
	f := func(left time.Duration, n int, want time.Duration) {
		t.Helper()
		if got := aloneOf(left, n); got != want {
			t.Errorf("%d addresses in %v: %v, want %v", n, left, got, want)
		}
	}
	f(5*time.Second, 1, alone)
	f(5*time.Second, 19, alone)
	f(time.Second, 4, 200*time.Millisecond)
	f(3300*time.Millisecond, 32, 100*time.Millisecond)
	f(3300*time.Millisecond, 5000, 100*time.Millisecond)
}

// Descriptors are counted by clients: a name of many addresses that do not answer must not
// take those of others.
func TestTwoAddressesAreTriedAtATime(t *testing.T) {
	addrs := []netip.AddrPort{silent(t), silent(t), silent(t), silent(t), silent(t), silent(t)}
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	before, most := open(), 0
	done := make(chan error, 1)
	go func() {
		_, err := dialAny(ctx, addrs)
		done <- err
	}()
	for {
		select {
		case err := <-done:
			if err == nil {
				t.Error("connected")
			}
			if most > 2 {
				t.Errorf("%d descriptors were taken at a time", most)
			}
			return
		default:
			most = max(most, open()-before)
		}
	}
}

func TestEachFamilyOfAddressesHasItsTurn(t *testing.T) {
	a := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	got := inTurn([]netip.AddrPort{a("[::1]:1"), a("[::2]:1"), a("[::3]:1"), a("1.1.1.1:1"), a("1.1.1.2:1")})
	want := []netip.AddrPort{a("[::1]:1"), a("1.1.1.1:1"), a("[::2]:1"), a("1.1.1.2:1"), a("[::3]:1")}
	if len(got) != len(want) {
		t.Fatal(got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}

func TestADialThatIsGivenUpEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dialAny(ctx, []netip.AddrPort{silent(t), silent(t)}); err == nil {
		t.Error("connected")
	}
}

func TestOfAddressesThatFailTheFirstToDoSoIsTold(t *testing.T) {
	refuses := netip.MustParseAddrPort(nettest.Refusing(t))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := dialAny(ctx, []netip.AddrPort{refuses, silent(t)}); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error(err)
	}
	if _, err := dialAny(ctx, []netip.AddrPort{silent(t)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
