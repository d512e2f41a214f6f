package sock

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"weir/proxy/nettest"
)

// Records that are here are one read, up to an end behind them, which is told next.
func TestRecordsThatAreHereAreOneRead(t *testing.T) {
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		x, sent, client, server := holding(t, v)
		for _, b := range []byte("twelve bytes") {
			_, _ = client.Write([]byte{b})
		}
		_ = client.CloseWrite()
		_ = x.SetWriteDeadline(time.Time{}) // which crypto/tls leaves behind its end
		_, _ = x.Write(sent.held)
		_ = server.SetReadDeadline(time.Now().Add(10 * time.Second))
		p := make([]byte, 100)
		for _, want := range []string{"twelve", " bytes"} {
			if n, err := server.Read(p[:6]); string(p[:n]) != want || err != nil {
				t.Errorf("%q, %v, not %q", p[:n], err, want)
			}
		}
		for range 2 {
			if n, err := server.Read(p); n > 0 || err != io.EOF || server.Cut() {
				t.Errorf("%d bytes, %v, cut %t", n, err, server.Cut())
			}
		}
	}
}

// together holds what is written back.
type together struct {
	net.Conn
	hold bool
	held []byte
}

func (h *together) Write(p []byte) (int, error) {
	if !h.hold {
		return h.Conn.Write(p)
	}
	h.held = append(h.held, p...)
	return len(p), nil
}

// holding is a client and a server behind their handshake, of which the client's writes
// are held, and x, on which they may be sent.
func holding(t *testing.T, version uint16) (x net.Conn, sent *together, client *tls.Conn, server *Conn) {
	x, y := nettest.Pair(t)
	sent = &together{Conn: x}
	client = tls.Client(sent, &tls.Config{InsecureSkipVerify: true, MaxVersion: version}) //nolint:gosec // a test's own
	own, _ := nettest.Certificate()
	server = Server(y, &tls.Config{Certificates: own})
	shake(t, client, server)
	sent.hold = true
	return x, sent, client, server
}

// An alert of which a piece is here ends nothing yet: the rest of it comes next.
func TestAPieceOfAnAlertIsNoEnd(t *testing.T) {
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		x, sent, client, server := holding(t, v)
		_, _ = client.Write([]byte("a"))
		_, _ = client.Write([]byte("b"))
		whole := len(sent.held)
		_ = client.CloseWrite()
		_ = x.SetWriteDeadline(time.Time{}) // which crypto/tls leaves behind its end
		_, _ = x.Write(sent.held[:whole+3])
		_ = server.SetReadDeadline(time.Now().Add(10 * time.Second))
		p := make([]byte, 100)
		if n, err := server.Read(p); string(p[:n]) != "ab" || err != nil {
			t.Errorf("%q, %v", p[:n], err)
		}
		_, _ = x.Write(sent.held[whole+3:])
		if n, err := server.Read(p); n > 0 || err != io.EOF || server.Cut() {
			t.Errorf("%s: %d bytes, %v, cut %t", tls.VersionName(v), n, err, server.Cut())
		}
	}
}
