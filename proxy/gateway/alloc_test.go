//go:build !race

package gateway

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// A GET on kept connections, from its first byte to the last of its answer: the
// gateway, the exchange, the upstream leg. A collection takes from those who are
// served, and begins only where something is allocated.
func TestAGetAllocatesNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nServer: s\r\n\r\nhello")
	serving.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		head := make([]byte, 4096)
		for { // each request comes in one piece
			if _, err := c.Read(head); err != nil {
				return
			}
			_, _ = c.Write(answer)
		}
	})
	r := start(t, "[upstream.u]\nurls = [\"http://"+l.Addr().String()+"\"]\n[[route]]\nupstream = \"u\"\n")
	c, err := net.Dial("tcp", r.g.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	request := []byte("GET /a?b HTTP/1.1\r\nHost: a.example\r\nUser-Agent: x\r\nAccept: */*\r\nCookie: a=b\r\n\r\n")
	got := make([]byte, len(answer))
	get := func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		get()
	}
	if !strings.HasSuffix(string(got), "hello") {
		t.Fatalf("got %q", got)
	}
	if n := testing.AllocsPerRun(1000, get); n != 0 {
		t.Errorf("%v allocations for a GET", n)
	}
	_ = c.Close()
	r.stop()
	_ = l.Close()
	serving.Wait()
}
