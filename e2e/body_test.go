//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
)

// sink is a backend that reads bodies by Content-Length or to the last chunk,
// and says how many bytes of body it saw.
func sink(t *testing.T, seen chan<- string) string {
	return backend(t, func(c *raw) {
		for {
			head := c.request()
			if head == "" {
				return
			}
			seen <- head
			n, err := c.body(head)
			if err != nil {
				return
			}
			body := fmt.Sprint(n)
			c.send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		}
	})
}

// body reads a body as its head declares it, and tells how many bytes it had.
func (c *raw) body(head string) (n int64, err error) {
	if field(head, "Transfer-Encoding") != "chunked" {
		n, _ = strconv.ParseInt(field(head, "Content-Length"), 10, 64)
		return io.CopyN(io.Discard, c.br, n)
	}
	for {
		line, err := c.br.ReadString('\n')
		if err != nil {
			return n, err
		}
		size, err := strconv.ParseInt(strings.TrimSpace(line), 16, 64)
		if err != nil {
			return n, err
		}
		if size == 0 {
			break
		}
		if _, err := io.CopyN(io.Discard, c.br, size+2); err != nil {
			return n, err
		}
		n += size
	}
	for { // trailer
		if line, err := c.br.ReadString('\n'); err != nil || line == "\r\n" {
			return n, err
		}
	}
}

func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 100)
	g := start(t, settings{native: true, limits: `max_body_size = 1000`, urls: sink(t, seen)})
	none := func() {
		t.Helper()
		select {
		case head := <-seen:
			t.Errorf("the upstream saw %q", head)
		default:
		}
	}
	tooLarge := func(a answer, actual int64) {
		t.Helper()
		p := decodeProblem(t, a.body)
		if a.StatusCode != 413 || p.Code != "payload_too_large" || p.Retryable || p.Limit != 1000 || a.Header.Get("Retry-After") != "" {
			t.Errorf("%s %s", a.Status, a.body)
		}
		if actual > 0 && p.Actual != actual {
			t.Errorf("actual %d, want %d", p.Actual, actual)
		}
		if !a.Close {
			t.Error("the connection stays, with a body on it that nobody has read")
		}
	}

	t.Run("at the ceiling", func(t *testing.T) {
		c := dialRaw(t, g.addr)
		for _, body := range []string{
			"Content-Length: 1000\r\n\r\n" + strings.Repeat("x", 1000),
			"Transfer-Encoding: chunked\r\n\r\n1F4\r\n" + strings.Repeat("x", 500) + "\r\n1f4\r\n" + strings.Repeat("y", 500) + "\r\n0\r\n\r\n",
		} {
			c.send("POST / HTTP/1.1\r\nHost: a\r\n" + body)
			if a := c.response("POST"); a.body != "1000" {
				t.Errorf("%s %q", a.Status, a.body)
			}
			receive(t, "the request", seen)
		}
	})
	t.Run("by the declared length, before it comes", func(t *testing.T) {
		c := dialRaw(t, g.addr)
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n")
		tooLarge(c.response("POST"), 1001)
		c.ended()
		none()
	})
	t.Run("declared and sent in full", func(t *testing.T) {
		c := dialRaw(t, g.addr)
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 200_000))
		tooLarge(c.response("POST"), 200_000)
		c.ended()
		none()
	})
	t.Run("with Expect nobody is asked to send it", func(t *testing.T) {
		c := dialRaw(t, g.addr)
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
		tooLarge(c.response("POST"), 1001)
		none()
	})
	t.Run("by count where no length is given", func(t *testing.T) {
		c := dialRaw(t, g.addr)
		c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
		for range 3 {
			c.send("190\r\n" + strings.Repeat("x", 400) + "\r\n")
		}
		tooLarge(c.response("POST"), 0)
		c.ended()
		receive(t, "the request", seen) // it had begun
	})
	t.Run("a small one behind a refusal on a connection of its own", func(t *testing.T) {
		c := dialRaw(t, g.addr)
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
		if a := c.response("POST"); a.body != "3" {
			t.Errorf("%s %q", a.Status, a.body)
		}
	})
}

func TestExpectContinue(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 10)
	g := start(t, settings{native: true, urls: sink(t, seen)})
	c := dialRaw(t, g.addr)
	for range 2 {
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		if line, err := c.br.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("%q, %v", line, err)
		}
		if line, err := c.br.ReadString('\n'); err != nil || line != "\r\n" {
			t.Fatalf("%q, %v", line, err)
		}
		c.send("hello")
		if a := c.response("POST"); a.StatusCode != 200 || a.body != "5" {
			t.Errorf("%s %q", a.Status, a.body)
		}
		if head := receive(t, "the request", seen); field(head, "Expect") != "" {
			t.Errorf("%q", head)
		}
	}
	// Node's client waits for the continuation too.
	n := startNode(t)
	p := n.new()
	p.do("http", args{"url": g.http("/"), "method": "POST", "open": true, "headers": map[string]string{"Expect": "100-continue", "Content-Length": "3"}})
	p.next("continue")
	p.do("end", args{"text": "abc"})
	if e := p.next("response"); e.Status != 200 {
		t.Errorf("%v", e)
	}
}

// A body is never held whole: its beginning is upstream before its end is sent.
func TestALargeBodyPasses(t *testing.T) {
	t.Parallel()
	g := start(t, settings{limits: `max_body_size = "64MiB"`})
	c := dialRaw(t, g.addr)
	c.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 40000000\r\n\r\n")
	piece := strings.Repeat("0123456789", 10_000)
	resp := make(chan int64, 1)
	go func() {
		r := c.head("POST")
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			t.Error(err)
		}
		resp <- n
	}()
	for range 400 {
		c.send(piece)
	}
	if n := receive(t, "the answer", resp); n != 40_000_000 {
		t.Errorf("%d bytes came back", n)
	}
	// Its memory tells that it never was held.
	if rss := g.metric("process_resident_memory_bytes"); rss > 150<<20 {
		t.Errorf("resident: %v bytes", rss)
	}
}
