package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"weir/proxy/config"
	"weir/proxy/faultlog"
	"weir/proxy/flow"
	"weir/proxy/metrics"
	"weir/proxy/nettest"
	"weir/proxy/policy"
	"weir/proxy/poll"
	"weir/proxy/sock"
	"weir/proxy/wsframe"
)

// realTunnel joins two loopback connections; c and u are the peers' ends.
func realTunnel(t testing.TB, set *Settings) (tun *Tunnel, c, u *net.TCPConn, ended chan struct{}) {
	t.Helper()
	cw, c := nettest.Pair(t)
	uw, u := nettest.Pair(t)
	p, err := poll.New(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	near := polledLeg(t, p, cw, nil)
	tun, ended = runTunnel(set, near, polledLeg(t, p, uw, near))
	return tun, c, u, ended
}

// polledLeg puts a connection on a loop, that of near if there is one.
func polledLeg(t testing.TB, p *poll.Poller, tcp *net.TCPConn, near *sock.Leg) *sock.Leg {
	t.Helper()
	l, err := sock.Wrap(tcp).Leg(p, near)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// runTunnel starts a tunnel; ended is closed at its end.
func runTunnel(set *Settings, client, upstream Transport) (tun *Tunnel, ended chan struct{}) {
	ended = make(chan struct{})
	route := &Route{Name: "r", Memory: flow.NewBudget(0, nil)}
	route.Store(set)
	log := slog.New(slog.DiscardHandler)
	tun = New(Options{
		ID: "t1", Route: route, Metrics: sharedMetrics(), Log: log, Faults: faultlog.New(log), Pressure: func() {},
		Client: Leg{Transport: client}, Upstream: Leg{Transport: upstream},
		Closed: func(*Tunnel) { close(ended) },
	})
	tun.Run()
	return tun, ended
}

var sharedMetrics = sync.OnceValue(func() *metrics.Set { return metrics.New("test") })

// realSettings have a policy with an opinion on every message.
func realSettings(t testing.TB) *Settings {
	return &Settings{View: events(t).View("r"), Limits: limits()}
}

// messages returns n bytes or more of messages of all sizes, masked or not.
func messages(n int, mask *[4]byte) (all []byte) {
	r := rand.New(rand.NewPCG(1, 2))
	payload := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	for len(all) < n {
		size := r.IntN([]int{10, 200, 5000, 160_000}[r.IntN(4)])
		all = wsframe.AppendFrame(all, wsframe.Binary, mask, payload[:size])
	}
	return all
}

// On real sockets, over TCP and TLS, everything critical arrives byte for byte,
// both ways at once, while others look at the tunnel and make it shed.
func TestRealSocketsBothWays(t *testing.T) {
	cert, _ := nettest.Certificate()
	server := &tls.Config{Certificates: cert}
	anyone := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the test's own
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "tcp", true: "tls"}[secure], func(t *testing.T) {
			cw, c := nettest.Pair(t)
			uw, u := nettest.Pair(t)
			client, upstream := sock.Wrap(cw), sock.Wrap(uw)
			peers := [2]net.Conn{c, u}
			if secure {
				client, upstream = sock.Server(cw, server), sock.Client(uw, anyone)
				c, u := tls.Client(c, anyone), tls.Server(u, server)
				shake(t, client.Handshake, upstream.Handshake, c.HandshakeContext, u.HandshakeContext)
				peers = [2]net.Conn{c, u}
			}
			for _, s := range []*sock.Conn{client, upstream} {
				if err := s.Unblock(); err != nil {
					t.Fatal(err)
				}
			}
			set := &Settings{View: (*policy.Policy)(nil).View("r"), Limits: limits()}
			set.Limits.MaxInbox = 1 << 30
			set.Limits.PingInterval = config.Unlimited
			tun, ended := runTunnel(set, client, upstream)

			var others sync.WaitGroup
			stop := make(chan struct{})
			others.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						tun.Info()
						tun.Shed()
					}
				}
			})
			bothWays(t, peers)
			close(stop)
			others.Wait()
			tun.Close(Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "over"})
			// The upstream is told first, and leaves.
			if _, err := io.ReadFull(peers[1], make([]byte, len(wsframe.AppendClose(nil, 1001, "over", &[4]byte{})))); err != nil {
				t.Errorf("the upstream: %v", err)
			}
			_ = peers[1].Close()
			if rest, err := io.ReadAll(peers[0]); err != nil || !bytes.Equal(rest, wsframe.AppendClose(nil, 1001, "over", nil)) {
				t.Errorf("the client received % x, %v at the end", rest, err)
			}
			_ = peers[0].Close()
			<-ended
		})
	}
}

// shake makes the TLS handshakes of all ends at once.
func shake(t *testing.T, handshakes ...func(context.Context) error) {
	t.Helper()
	var all sync.WaitGroup
	for _, handshake := range handshakes {
		all.Go(func() {
			if err := handshake(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// bothWays has each peer send messages to the other, and what arrives is them.
func bothWays(t *testing.T, peers [2]net.Conn) {
	t.Helper()
	var all sync.WaitGroup
	for i, mask := range []*[4]byte{{9, 8, 7, 6}, nil} {
		sent := messages(8<<20, mask)
		all.Go(func() {
			if _, err := peers[i].Write(sent); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			got := make([]byte, len(sent))
			for n := 0; n < len(got); {
				k, err := peers[i^1].Read(got[n:min(len(got), n+50_000)])
				if err != nil {
					t.Error(err)
					return
				}
				n += k
			}
			if !bytes.Equal(got, sent) {
				t.Errorf("%d bytes differ from what was sent", len(sent))
			}
		})
	}
	all.Wait()
}
