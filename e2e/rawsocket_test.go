//go:build e2e

package e2e

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"testing"
)

// upgrade is a handshake, byte by byte.
func upgrade(target string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
}

// socket opens a WebSocket without a library.
func (g *gateway) socket(t *testing.T, target string) *raw {
	t.Helper()
	c := dialRaw(t, g.addr)
	c.upgrade(target)
	return c
}

// upgrade makes a WebSocket of a connection.
func (c *raw) upgrade(target string) {
	c.t.Helper()
	c.send(upgrade(target))
	if resp := c.head("GET"); resp.StatusCode != 101 {
		c.t.Fatal(resp.Status)
	}
}

// accept is the 101 to a handshake.
func accept(head string) string {
	sum := sha1.Sum([]byte(field(head, "Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n"
}

// socketBackend shakes hands and hands the connection over.
func socketBackend(t *testing.T) (url string, conns <-chan *raw) {
	c := make(chan *raw, 10)
	over := make(chan struct{})
	url = backend(t, func(conn *raw) {
		if head := conn.request(); head != "" {
			conn.send(accept(head))
			c <- conn
			<-over
		}
	})
	t.Cleanup(func() { close(over) })
	return url, c
}

// frame is one frame with the first byte b0; a client's is masked.
func frame(b0 byte, masked bool, payload string) string {
	return frameOf(b0, masked, uint64(len(payload)), payload)
}

// frameOf is a frame whose header declares n bytes.
func frameOf(b0 byte, masked bool, n uint64, payload string) string {
	b := []byte{b0, 0}
	switch {
	case n < 126:
		b[1] = byte(n)
	case n < 1<<16:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, n)
	}
	if masked {
		b[1] |= 0x80
		b = append(b, 0, 0, 0, 0) // a mask that changes nothing
	}
	return string(b) + payload
}

// frame reads one frame that is not masked.
func (c *raw) frame() (b0 byte, payload string) {
	c.t.Helper()
	b0, masked, payload, err := c.anyFrame()
	if err != nil || masked {
		c.t.Fatalf("%x %.60q, masked %v, %v", b0, payload, masked, err)
	}
	return b0, payload
}

// anyFrame reads one frame, and unmasks it.
func (c *raw) anyFrame() (b0 byte, masked bool, payload string, err error) {
	var h [2]byte
	if _, err := io.ReadFull(c.br, h[:]); err != nil {
		return 0, false, "", fmt.Errorf("no frame: %w", err)
	}
	n := uint64(h[1] & 0x7f)
	var l [8]byte
	switch n {
	case 126:
		_, err = io.ReadFull(c.br, l[6:])
	case 127:
		_, err = io.ReadFull(c.br, l[:])
	}
	if n > 125 {
		n = binary.BigEndian.Uint64(l[:])
	}
	var mask [4]byte
	if masked = h[1]&0x80 != 0; masked && err == nil {
		_, err = io.ReadFull(c.br, mask[:])
	}
	if err != nil || n > 1<<30 {
		return h[0], masked, "", fmt.Errorf("a frame of %d bytes: %w", n, err)
	}
	b := make([]byte, n)
	if _, err = io.ReadFull(c.br, b); err != nil {
		return h[0], masked, "", fmt.Errorf("half a frame: %w", err)
	}
	for i := range b {
		b[i] ^= mask[i%4]
	}
	return h[0], masked, string(b), nil
}
