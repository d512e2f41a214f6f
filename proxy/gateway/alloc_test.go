//go:build !race

package gateway

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"weir/proxy/nettest"
)

// A GET on kept connections, from its first byte to the last of its answer: the
// gateway, the exchange, the upstream leg. A collection takes from those who are
// served, and begins only where something is allocated.
func TestAGetAllocatesNothing(t *testing.T) {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nServer: s\r\n\r\nhello")
	upstream := nettest.Serve(t, func(c *net.TCPConn, _ int) {
		defer c.Close()
		head := make([]byte, 4096)
		for { // each request comes in one piece
			if _, err := c.Read(head); err != nil {
				return
			}
			_, _ = c.Write(answer)
		}
	})
	r := start(t, "[upstream.u]\nurls = [\"http://"+upstream+"\"]\n[[route]]\nupstream = \"u\"\n")
	c := nettest.Dial(t, r.g.Addr().String())
	got := make([]byte, len(answer)+len("Date: "+http.TimeFormat+"\r\n"))
	if n := allocsOfAGet(t, c, got); n != 0 {
		t.Errorf("%v allocations for a GET", n)
	}
	if !strings.HasSuffix(string(got), "hello") {
		t.Fatalf("got %q", got)
	}
	_ = c.Close()
}

// Refusals come in floods: a line that the log leaves out is not made either.
func TestARefusedGETAllocatesLittle(t *testing.T) {
	r := start(t, demoUpstream+"[[route]]\npath = \"/api\"\nupstream = \"demo\"\n")
	c := nettest.Dial(t, r.g.Addr().String())
	if _, err := c.Write(aGet); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4096)
	n, err := c.Read(got) // each answer comes in one piece, and is as long as the others
	if err != nil {
		t.Fatal(err)
	}
	if n := allocsOfAGet(t, c, got[:n]); n > 9 {
		t.Errorf("%v allocations for a GET that is refused", n)
	}
	if s := string(got[:n]); !strings.HasPrefix(s, "HTTP/1.1 404 ") || !strings.HasSuffix(s, "}") {
		t.Fatalf("got %q", s)
	}
}

var aGet = []byte("GET /a?b HTTP/1.1\r\nHost: a.example\r\nUser-Agent: x\r\nAccept: */*\r\nCookie: a=b\r\n\r\n")

// allocsOfAGet sends one after the other; their answers fill got.
func allocsOfAGet(t *testing.T, c net.Conn, got []byte) float64 {
	t.Helper()
	get := func() {
		if _, err := c.Write(aGet); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		get()
	}
	return testing.AllocsPerRun(1000, get)
}
