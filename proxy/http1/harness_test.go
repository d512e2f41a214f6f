package http1

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"weir/proxy/nettest"
	"weir/proxy/sock"
)

// patience bounds every wait of a test; none should come near it.
const patience = 10 * time.Second

// listen serves connections on loopback until the test ends, and fails it when
// one does not end then.
func listen(t testing.TB, s *Server) string {
	t.Helper()
	addr := nettest.Serve(t, func(c *net.TCPConn, _ int) { s.ServeConn(sock.Wrap(c)) })
	t.Cleanup(s.Close)
	return addr
}

// client is a connection that reads and writes literally.
type client struct {
	t  testing.TB
	nc *net.TCPConn
	br *bufio.Reader
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	nc := nettest.Dial(t, addr)
	_ = nc.SetDeadline(time.Now().Add(patience))
	return &client{t: t, nc: nc, br: bufio.NewReader(nc)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.nc, s); err != nil {
		c.t.Fatal(err)
	}
}

// expect reads exactly want.
func (c *client) expect(want string) {
	c.t.Helper()
	b := make([]byte, len(want))
	n, err := io.ReadFull(c.br, b)
	if string(b[:n]) != want {
		rest, _ := c.br.Peek(c.br.Buffered())
		c.t.Fatalf("\n got %q + %q (%v)\nwant %q", b[:n], rest, err, want)
	}
}

// expectEnd reads the proper end of the connection.
func (c *client) expectEnd() {
	c.t.Helper()
	if b, err := io.ReadAll(c.br); len(b) > 0 || err != nil {
		c.t.Fatalf("got %q, %v; want the end", b, err)
	}
}

// head reads one response head.
func (c *client) head() string {
	c.t.Helper()
	var b strings.Builder
	for {
		line, err := c.br.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			c.t.Fatalf("%q: %v", b.String(), err)
		}
		if line == "\r\n" {
			return b.String()
		}
	}
}

// hello answers every request with its target.
func hello(x *Exchange) { _ = x.Respond(200, "text/plain", x.Req.Target) }

const get = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"

const gotA = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n/a"
