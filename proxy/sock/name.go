package sock

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// alone is how long an address is tried before the next is tried beside it, at most
// (RFC 8305 §5).
const alone = 250 * time.Millisecond

// DialName connects to address, host:port, until ctx ends. A name is looked up, and its
// addresses are tried one beside the other: one that does not answer leaves time for the
// next, however little there is.
func DialName(ctx context.Context, address string) (*net.TCPConn, error) {
	addrs, err := lookUp(ctx, address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	return dialAny(ctx, inTurn(addrs))
}

// lookUp returns the addresses of a name, the best ones first (RFC 6724).
func lookUp(ctx context.Context, address string) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, &net.AddrError{Err: "invalid port", Addr: address}
	}
	ips, err := names.find(ctx, host)
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip.Unmap(), uint16(port))
	}
	return addrs, nil
}

// inTurn has IPv4 and IPv6 addresses take turns (RFC 8305 §4): a network that lacks one
// of them lacks all of its addresses.
func inTurn(addrs []netip.AddrPort) (turns []netip.AddrPort) {
	var other []netip.AddrPort // than the first one's family
	for _, a := range addrs {
		if a.Addr().Is4() == addrs[0].Addr().Is4() {
			turns = append(turns, a)
		} else {
			other = append(other, a)
		}
	}
	for i, a := range other {
		turns = slices.Insert(turns, min(2*i+1, len(turns)), a)
	}
	return turns
}

// mostInTime is among how many addresses the time for all is shared: were it more, none
// that is far away would have the time to answer.
const mostInTime = 32

// aloneOf is how long each of n addresses is tried alone, where so much time is left.
func aloneOf(left time.Duration, n int) time.Duration {
	return min(alone, left/time.Duration(min(n, mostInTime)+1))
}

// mostBeside is how many addresses are tried at a time: a name of many that do not answer
// must not take the descriptors of other clients.
const mostBeside = 2

// attempt is an address that is tried.
type attempt struct {
	stop    context.CancelFunc
	stopped bool // for another that waits
	nc      net.Conn
	err     error
}

// dialAny connects to one of addrs. The next is tried when the one before has failed, or
// beside it after a while, so that all have their time: the one that was tried longest is
// given up for one more.
func dialAny(ctx context.Context, addrs []netip.AddrPort) (*net.TCPConn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait := alone
	if due, ok := ctx.Deadline(); ok {
		wait = aloneOf(time.Until(due), len(addrs))
	}
	ends := make(chan *attempt)
	next := time.NewTimer(0)
	defer next.Stop()
	var won net.Conn
	var failed error
	for under := []*attempt(nil); len(under)+len(addrs) > 0; {
		select {
		case <-next.C:
			if len(addrs) == 0 {
				continue
			}
			if len(under) == mostBeside {
				under[0].stopped = true
				under[0].stop() // and when it has ended the next begins
				continue
			}
			to := addrs[0].String()
			addrs = addrs[1:]
			ctx, stop := context.WithCancel(ctx)
			a := &attempt{stop: stop}
			under = append(under, a)
			go func() { // joined below: it ends with ctx
				d := net.Dialer{KeepAlive: -1}
				a.nc, a.err = d.DialContext(ctx, "tcp", to)
				ends <- a
			}()
			next.Reset(wait)
		case a := <-ends:
			a.stop()
			under = slices.DeleteFunc(under, func(other *attempt) bool { return other == a })
			switch {
			case a.err == nil && won == nil:
				won, addrs = a.nc, nil
				cancel()
			case a.err == nil:
				_ = a.nc.Close()
			case failed == nil && !a.stopped || Lack(a.err) != "":
				failed = a.err
			}
			next.Reset(0)
		}
	}
	if tcp, ok := won.(*net.TCPConn); ok {
		return tcp, nil
	}
	return nil, failed
}
