package sock

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"weir/proxy/nettest"
)

// deaf is a connection whose peer is not listened to.
type deaf struct{ net.Conn }

func (deaf) Read([]byte) (int, error) { return 0, net.ErrClosed }

// The deadline of a read holds for the handshake that it begins, also while that
// waits for the peer to take what it is sent: a certificate may be longer than what
// the kernel holds.
func TestAHandshakeThatIsNotTakenEnds(t *testing.T) {
	own, _ := nettest.Certificate()
	own[0].Certificate = append(own[0].Certificate, make([]byte, 8<<20))
	x, y := nettest.Pair(t)
	server := Server(y, &tls.Config{Certificates: own})
	client := tls.Client(deaf{x}, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a test's own
	_ = client.Handshake()                                               // as far as that goes
	_ = server.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	endsInTime(t, server)
}

// endsInTime wants a read of server to end with its deadline.
func endsInTime(t *testing.T, server *Conn) {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		_, err := server.Read(make([]byte, 1))
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits on")
	}
}

// The deadline of the read that began it is none for what is written behind it.
func TestAHandshakeLeavesNoDeadlineForWrites(t *testing.T) {
	own, _ := nettest.Certificate()
	x, y := nettest.Pair(t)
	server := Server(y, &tls.Config{Certificates: own})
	_ = server.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	shake(t, tls.Client(x, &tls.Config{InsecureSkipVerify: true}), server) //nolint:gosec // a test's own
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if _, err := server.Write([]byte("answer")); err != nil {
		t.Error(err)
	}
}

// A process that was stopped finds the deadline of a handshake over before it has read
// what came meanwhile: the handshake lasts a little longer, once.
func TestALateHandshakeIsPutOff(t *testing.T) {
	own, _ := nettest.Certificate()
	f := func(over time.Duration, want bool) {
		t.Helper()
		x, y := nettest.Pair(t)
		server := Server(y, &tls.Config{Certificates: own})
		due := time.Now().Add(-over)
		server.tls.due.Store(&due)
		_ = y.SetDeadline(due)
		client := tls.Client(x, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a test's own
		go func() {
			if client.Handshake() == nil {
				_, _ = client.Write([]byte("x"))
			}
		}()
		n, err := server.Read(make([]byte, 1))
		if got := n == 1; got != want {
			t.Errorf("over for %v: it was read: %v (%v)", over, got, err)
		}
	}
	f(0, false)
	f(30*time.Second, true)
}

// A deadline that ended a handshake is not told again: who sets another and tries again
// would do so without end.
func TestAHandshakeFailsOnce(t *testing.T) {
	own, _ := nettest.Certificate()
	_, y := nettest.Pair(t)
	server := Server(y, &tls.Config{Certificates: own})
	told := 0
	server.OnHandshakeError(func(error) { told++ })
	_ = server.SetReadDeadline(time.Unix(1, 0))
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	_ = server.SetReadDeadline(time.Now().Add(time.Hour))
	if _, err := server.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the second read: %v", err)
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

// watched is a connection that tells whenever its handshake waits for its peer.
type watched struct {
	*net.TCPConn
	waits func()
}

func (w watched) Read(p []byte) (int, error) {
	w.waits()
	return w.TCPConn.Read(p)
}

func (w watched) Write(p []byte) (int, error) {
	w.waits()
	return w.TCPConn.Write(p)
}

// A thousand handshakes that computed at once had all loops wait for Go's scheduler; one
// that kept its place while it waits for its client would keep others out.
func TestAHandshakeHasAPlaceWhileItComputes(t *testing.T) {
	own, _ := nettest.Certificate()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		x, y := nettest.Pair(t)
		places := func(want int) {
			t.Helper()
			if n := len(computing); n != want {
				t.Errorf("%d places are taken, not %d", n, want)
			}
		}
		asked := false
		server := Server(watched{y, func() { places(0) }}, &tls.Config{
			MaxVersion: version,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				places(1)
				asked = true
				return &own[0], nil
			},
		})
		shake(t, tls.Client(x, &tls.Config{InsecureSkipVerify: true}), server) //nolint:gosec // a test's own
		if places(0); !asked {
			t.Error("no certificate was asked for")
		}
	}
}

// Six clients that each sent a ClientHello and left, again and again, had others wait for
// 2.8 s for what nobody waited for.
func TestNothingIsComputedForWhoHasLeft(t *testing.T) {
	own, _ := nettest.Certificate()
	for _, linger := range []int{-1, 0} { // with FIN, with RST
		x, y := nettest.Pair(t)
		server := Server(y, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			t.Error("a certificate is asked for")
			return &own[0], nil
		}})
		_ = tls.Client(deaf{x}, &tls.Config{InsecureSkipVerify: true}).Handshake() //nolint:gosec // a test's own
		if err := errors.Join(x.SetLinger(linger), x.Close()); err != nil {
			t.Fatal(err)
		}
		if err := server.Handshake(t.Context()); err == nil {
			t.Error("it has succeeded")
		}
		if n := len(computing); n != 0 {
			t.Errorf("%d places are kept", n)
		}
	}
}

// Nor for who has left behind the answer to a request for another key share, which can be
// sent without it.
func TestNothingIsComputedForWhoHasLeftBehindARetry(t *testing.T) {
	own, _ := nettest.Certificate()
	x, y := nettest.Pair(t)
	asked, left := false, make(chan struct{})
	server := Server(watched{y, func() {
		if asked {
			<-left
		}
	}}, &tls.Config{
		CurvePreferences: []tls.CurveID{tls.CurveP521},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			t.Error("a certificate is asked for")
			return &own[0], nil
		},
	})
	go func() {
		defer close(left)
		_ = tls.Client(&hasty{Conn: x}, &tls.Config{InsecureSkipVerify: true}).Handshake() //nolint:gosec // a test's own
	}()
	server.tls.tcp = asks{server.tls.tcp, &asked}
	if err := server.Handshake(t.Context()); err == nil {
		t.Error("it has succeeded")
	}
}

// asks is a connection that tells when something has been written.
type asks struct {
	TCP
	written *bool
}

func (a asks) Write(p []byte) (int, error) {
	n, err := a.TCP.Write(p)
	*a.written = true
	return n, err
}

// hasty is a connection that ends behind its second ClientHello.
type hasty struct {
	net.Conn
	hellos int
}

func (h *hasty) Write(p []byte) (int, error) {
	n, err := h.Conn.Write(p)
	if p[0] == recordTypeHandshake {
		if h.hellos++; h.hellos == 2 {
			_ = h.Close()
		}
	}
	return n, err
}

// A handshake that waits for a place to compute at has no longer for that.
func TestAHandshakeThatWaitsForAPlaceEnds(t *testing.T) {
	own, _ := nettest.Certificate()
	for range cap(computing) {
		computing <- struct{}{}
	}
	defer func() {
		for range cap(computing) {
			<-computing
		}
	}()
	x, y := nettest.Pair(t)
	server := Server(y, &tls.Config{Certificates: own})
	_ = server.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	_ = tls.Client(deaf{x}, &tls.Config{InsecureSkipVerify: true}).Handshake() //nolint:gosec // a test's own
	endsInTime(t, server)
}

// Nor for who sends more behind the first ClientHello, which without an answer can be
// nothing, and leaves then.
func TestNothingIsComputedForWhoHasLeftBehindMore(t *testing.T) {
	own, _ := nettest.Certificate()
	for _, linger := range []int{-1, 0} { // with FIN, with RST
		for _, kind := range []byte{recordTypeChange, 21, 23} {
			x, y := nettest.Pair(t)
			server := Server(y, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				t.Errorf("a certificate is asked for, before a record of type %d", kind)
				return &own[0], nil
			}})
			_ = tls.Client(trailing{deaf{x}, []byte{kind, 3, 3, 0, 1, 1}}, &tls.Config{InsecureSkipVerify: true}).Handshake() //nolint:gosec // a test's own
			if err := errors.Join(x.SetLinger(linger), x.Close()); err != nil {
				t.Fatal(err)
			}
			if err := server.Handshake(t.Context()); err == nil {
				t.Error("it has succeeded")
			}
		}
	}
}

// trailing is a connection on which something stands right behind what is written.
type trailing struct {
	deaf
	behind []byte
}

func (c trailing) Write(p []byte) (int, error) {
	n, err := c.deaf.Write(append(slices.Clip(p), c.behind...))
	return min(n, len(p)), err
}

// A client that has said all, and has ended its side, is answered, though the last of its
// handshake came with that: with a ticket, without one, and behind a retry.
func TestAHandshakeOfWhoHasEndedItsSide(t *testing.T) {
	own, _ := nettest.Certificate()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		tickets := tls.NewLRUClientSessionCache(1)
		cfg := &tls.Config{Certificates: own}
		for i, curve := range []tls.CurveID{tls.X25519, tls.X25519, tls.CurveP521} {
			x, y := nettest.Pair(t)
			if cfg.CurvePreferences = []tls.CurveID{curve}; i == 2 {
				tickets = nil
			}
			held := &last{together: together{Conn: x}, tls13: version == tls.VersionTLS13}
			client := tls.Client(held, &tls.Config{InsecureSkipVerify: true, MaxVersion: version, ClientSessionCache: tickets, ServerName: "a"}) //nolint:gosec // a test's own
			server := Server(y, cfg)
			done := make(chan error, 1)
			go func() {
				var p [9]byte
				n, err := io.ReadFull(server, p[:])
				if err == nil {
					_, err = server.Write(p[:n])
				}
				done <- err
			}()
			if err := client.Handshake(); err != nil {
				t.Fatal(err)
			}
			if resumed := client.ConnectionState().DidResume; resumed != (i == 1) {
				t.Errorf("%s: resumed %t, the handshake %d", tls.VersionName(version), resumed, i)
			}
			held.hold = true
			_, _ = client.Write([]byte("a request"))
			_, _ = x.Write(held.held)
			if err := x.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 9)
			if _, err := io.ReadFull(client, p); err != nil || string(p) != "a request" {
				t.Errorf("%s: %q, %v", tls.VersionName(version), p, err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
}

// last is a connection on which the last that a handshake says is held, where nothing is
// waited for behind it.
type last struct {
	together
	tls13 bool
}

func (l *last) Write(p []byte) (int, error) {
	l.hold = l.hold || p[0] == 23 || p[0] == recordTypeChange && !l.tls13
	return l.together.Write(p)
}

// A client that speaks no TLS has nothing computed for it, and may have ended its side:
// what it says is told, so that it is answered.
func TestWhatIsNoTLSIsToldThoughItHasEnded(t *testing.T) {
	own, _ := nettest.Certificate()
	x, y := nettest.Pair(t)
	if _, err := x.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := x.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	err := Server(y, &tls.Config{Certificates: own}).Handshake(t.Context())
	if e, ok := errors.AsType[tls.RecordHeaderError](err); !ok || string(e.RecordHeader[:]) != "GET /" {
		t.Error(err)
	}
}
