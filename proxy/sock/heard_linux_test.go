package sock

import (
	"crypto/tls"
	"errors"
	"slices"
	"testing"
	"time"

	"weir/proxy/nettest"
)

// A handshake message is held until it is whole: a client may begin one of 64 KiB, in
// the handshake and at any time behind it, and never end it.
func TestHandshakeMessagesAreBounded(t *testing.T) {
	p := newLoops(t, 1)
	long := slices.Concat([]byte{1, 0, 0xff, 0xff}, make([]byte, 60<<10))
	refused := func(t *testing.T, read func() error) {
		t.Helper()
		if err := read(); !errors.Is(err, errHeard) {
			t.Error(err)
		}
	}
	t.Run("a ClientHello", func(t *testing.T) {
		s, peer := looped(t, p)
		own, _ := nettest.Certificate()
		c := Server(s, &tls.Config{Certificates: own})
		_ = c.SetReadDeadline(time.Now().Add(patience))
		var b []byte
		for rest := range slices.Chunk(long, 16<<10) {
			b = append(append(b, 22, 3, 1, byte(len(rest)>>8), byte(len(rest))), rest...)
		}
		go func() { _, _ = peer.Write(b) }()
		refused(t, func() error { return c.Handshake(t.Context()) })
	})
	fragments := func(u *updater) (b []byte) {
		for rest := range slices.Chunk(long, 200) {
			b = u.record(b, 22, rest...)
		}
		return b
	}
	t.Run("behind the handshake", func(t *testing.T) {
		c, u := updating(t, p)
		_ = c.SetReadDeadline(time.Now().Add(patience))
		b := fragments(u)
		go func() { _, _ = u.tcp.Write(b) }()
		refused(t, func() error { _, err := c.Read(make([]byte, 1)); return err })
	})
	t.Run("in a tunnel", func(t *testing.T) {
		c, u := updating(t, p)
		l, err := c.Leg(p, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		_ = l.SetReadDeadline(time.Now().Add(patience))
		b := fragments(u)
		go func() { _, _ = u.tcp.Write(b) }()
		refused(t, func() error { _, err := l.ReadTo(&lender{size: 100}); return err })
	})
}

// What is bounded is what has no plaintext in it: a stream of large records has.
func TestLargeRecordsAreRead(t *testing.T) {
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client, server := tlsPair(t, v)
		b := make([]byte, 16<<10)
		const times = 70 // crypto/tls begins with small ones
		go func() {
			for range times {
				_, _ = client.Write(make([]byte, len(b)))
			}
		}()
		_ = server.SetReadDeadline(time.Now().Add(patience))
		for n := 0; n < times*len(b); {
			k, err := server.Read(b)
			if n += k; err != nil {
				t.Fatal(err)
			}
		}
	}
}
