package gateway

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"weir/proxy/faultlog"
	"weir/proxy/nettest"
)

// Only an error of the listener itself ends the process.
func TestWhatPassesOfAcceptsErrors(t *testing.T) {
	for _, c := range []struct {
		err    error
		passes bool
	}{
		{syscall.EMFILE, true},
		{syscall.ECONNABORTED, true},
		{syscall.EPROTO, true}, // accept(2): of the connection that was to be accepted
		{syscall.ENETDOWN, true},
		{syscall.EPERM, true}, // a firewall's rule
		{syscall.EBADF, false},
		{syscall.ENOTSOCK, false},
		{syscall.EINVAL, false}, // nothing listens
		{net.ErrClosed, false},
		{errors.New("another"), false},
	} {
		wrapped := &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", c.err)}
		if got := passing(wrapped); got != c.passes {
			t.Errorf("%v passes: %v, want %v", c.err, got, c.passes)
		}
	}
}

// Of a link-local peer the zone says by which link it came, not who it is.
func TestATrustedProxyMayBeLinkLocal(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::1/128")}
	for peer, want := range map[string]bool{"10.1.2.3": true, "192.0.2.1": false, "fe80::1%eth0": true, "fe80::2%eth0": false, "fe80::1": true} {
		if got := within(trusted, netip.MustParseAddr(peer)); got != want {
			t.Errorf("%s: %v, want %v", peer, got, want)
		}
	}
}

// Where descriptors come and go at the limit, every other accept fails, as fast as clients
// connect.
func TestConnectionsThatCannotBeAcceptedAreNoFloodOfLines(t *testing.T) {
	var log bytes.Buffer
	g := &Gateway{log: slog.New(slog.NewTextHandler(&log, nil)), listener: nettest.Listen(t)}
	g.current.Store(&generation{})
	g.faults = faultlog.New(g.log)
	defer g.faults.Close()
	for range 1000 {
		g.notAccepted(os.NewSyscallError("accept4", syscall.EMFILE))
	}
	if n := strings.Count(log.String(), "connections cannot be accepted"); n == 0 || n > 100 {
		t.Errorf("%d lines for 1000 failures", n)
	}
}
