package relay

import (
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"sync"
	"testing"

	"weir/proxy/config"
	"weir/proxy/metrics"
	"weir/proxy/nettest"
	"weir/proxy/policy"
	"weir/proxy/sock"
	"weir/proxy/wsframe"
)

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
	srv := httptest.NewUnstartedServer(nil) // for its certificate
	srv.StartTLS()
	cert := srv.TLS.Certificates
	srv.Close()
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "tcp", true: "tls"}[secure], func(t *testing.T) {
			cw, c := nettest.Pair(t)
			uw, u := nettest.Pair(t)
			client, upstream := sock.Wrap(cw), sock.Wrap(uw)
			peers := [2]net.Conn{c, u}
			if secure {
				client = sock.Server(cw, &tls.Config{Certificates: cert})
				upstream = sock.Client(uw, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the test's own
				peers[0] = tls.Client(c, &tls.Config{InsecureSkipVerify: true})   //nolint:gosec // likewise
				peers[1] = tls.Server(u, &tls.Config{Certificates: cert})
				var wg sync.WaitGroup
				for i, ours := range []*sock.Conn{client, upstream} {
					wg.Go(func() {
						if err := ours.Handshake(t.Context()); err != nil {
							t.Error(err)
						}
					})
					wg.Go(func() {
						if err := peers[i].(*tls.Conn).Handshake(); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
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

			var wg, others sync.WaitGroup
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
			for i, mask := range []*[4]byte{{9, 8, 7, 6}, nil} {
				all := messages(8<<20, mask)
				wg.Go(func() {
					if _, err := peers[i].Write(all); err != nil {
						t.Error(err)
					}
				})
				wg.Go(func() {
					got := make([]byte, len(all))
					for n := 0; n < len(got); {
						k, err := peers[i^1].Read(got[n:min(len(got), n+50_000)])
						if err != nil {
							t.Error(err)
							return
						}
						n += k
					}
					if !bytes.Equal(got, all) {
						t.Errorf("%d bytes differ from what was sent", len(all))
					}
				})
			}
			wg.Wait()
			close(stop)
			others.Wait()
			tun.Close(Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "over"})
			for i, p := range peers {
				rest, err := io.ReadAll(p)
				want := wsframe.AppendClose(nil, 1001, "over", nil)
				if i == 0 && (err != nil || !bytes.Equal(rest, want)) {
					t.Errorf("the client received % x, %v at the end", rest, err)
				}
				_ = p.Close()
			}
			<-ended
		})
	}
}
