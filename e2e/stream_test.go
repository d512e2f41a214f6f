//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"testing"
	"time"
)

// Events arrive one by one, as they are produced: seen with Node's client.
func TestEventsArriveOneByOne(t *testing.T) {
	t.Parallel()
	produce := make(chan string)
	g := start(t, settings{native: true, urls: backend(t, func(c *raw) {
		if c.request() == "" {
			return
		}
		c.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
		for e := range produce {
			c.send(fmt.Sprintf("%x\r\n%s\r\n", len(e), e))
		}
		c.send("0\r\nX-Trailer: t\r\n\r\n")
	})})
	n := startNode(t)
	p := n.new()
	p.do("http", args{"url": g.http("/")})
	if e := p.next("response"); e.header("content-type") != "text/event-stream" || e.header("transfer-encoding") != "chunked" {
		t.Errorf("%v", e)
	}
	for i := range 5 {
		e := fmt.Sprintf("data: %d\n\n", i)
		produce <- e
		if got := p.next("chunk"); got.Text != e {
			t.Errorf("%v", got)
		}
	}
	close(produce)
	if e := p.next("end"); e.header("x-trailer") != "t" {
		t.Errorf("trailers: %v", e)
	}
}

// Both bodies flow at once: the answer begins before the request has ended.
func TestBodiesFlowBothWaysAtOnce(t *testing.T) {
	t.Parallel()
	heads := make(chan string, 1)
	g := start(t, settings{native: true, urls: backend(t, func(c *raw) {
		head := c.request()
		if head == "" {
			return
		}
		heads <- head
		c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for { // each chunk comes back as one
			size, err := c.br.ReadString('\n')
			if err != nil {
				return
			}
			c.send(size)
			if size == "0\r\n" {
				for line := ""; line != "\r\n"; {
					if line, err = c.br.ReadString('\n'); err != nil {
						return
					}
					c.send(line)
				}
				return
			}
			line, err := c.br.ReadString('\n')
			if err != nil {
				return
			}
			c.send(line)
		}
	})})
	c := dialRaw(t, g.addr)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
	resp := c.head("POST")
	br := bufio.NewReader(resp.Body)
	for i := range 5 {
		c.send(fmt.Sprintf("7\r\nline %d\n\r\n", i))
		if line, err := br.ReadString('\n'); err != nil || line != fmt.Sprintf("line %d\n", i) {
			t.Fatalf("%q, %v", line, err)
		}
	}
	c.send("0\r\nX-Sum: s\r\n\r\n")
	if rest, err := io.ReadAll(br); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	if got := resp.Trailer.Get("X-Sum"); got != "s" {
		t.Errorf("the trailer came back as %q", got)
	}
	if head := receive(t, "the head", heads); field(head, "Transfer-Encoding") != "chunked" || field(head, "Trailer") != "X-Sum" {
		t.Errorf("%q", head)
	}
}

func TestAClientThatGoesAwayCancelsItsRequest(t *testing.T) {
	t.Parallel()
	for name, head := range map[string]string{
		"before the answer": "",
		"within it":         "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
	} {
		asked, gone := make(chan struct{}, 1), make(chan error, 1)
		g := start(t, settings{native: true, urls: backend(t, func(c *raw) {
			if c.request() == "" {
				return
			}
			c.send(head)
			asked <- struct{}{}
			_, err := c.br.ReadByte()
			gone <- err
		})})
		c := dialRaw(t, g.addr)
		c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		receive(t, "the request", asked)
		c.Close()
		if err := receive(t, "the end of the upstream's connection", gone); err == nil || isTimeout(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a client does not read is not read from the upstream either.
func TestASlowClientSlowsItsUpstream(t *testing.T) {
	t.Parallel()
	const ceiling = 64 << 20 // far above what sockets hold
	stuck := make(chan int, 1)
	g := start(t, settings{native: true, limits: `write_timeout = "10m"`, urls: backend(t, func(c *raw) {
		if c.request() == "" {
			return
		}
		c.send("HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n")
		piece, sent := make([]byte, 256<<10), 0
		for sent < ceiling {
			_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			n, err := c.Write(piece)
			sent += n
			if err != nil {
				break
			}
		}
		stuck <- sent
	})})
	c := dialRaw(t, g.addr)
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if n := receive(t, "the upstream to be stuck", stuck); n >= ceiling {
		t.Errorf("%d bytes were taken of an upstream whose client reads nothing", n)
	}
}

// An answer that the upstream did not finish is never made to look whole.
func TestACutAnswerIsCut(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		g := start(t, settings{native: true, urls: backend(t, func(c *raw) {
			if c.request() != "" {
				c.send(answer)
			}
		})})
		n := startNode(t)
		p := n.new()
		p.do("http", args{"url": g.http("/")})
		p.next("response")
		if e := p.next("chunk"); e.Text != "abc" {
			t.Errorf("%s: %v", name, e)
		}
		if e := p.any(); e.Ev != "error" {
			t.Errorf("%s: %v, want an error", name, e)
		}
	}
}

// A response that is under way is not touched by a reload.
func TestAStreamOutlivesReloads(t *testing.T) {
	t.Parallel()
	produce := make(chan string)
	s := settings{urls: backend(t, func(c *raw) {
		if c.request() == "" {
			return
		}
		c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for e := range produce {
			c.send(fmt.Sprintf("%x\r\n%s\r\n", len(e), e))
		}
		c.send("0\r\n\r\n")
	})}
	g := start(t, s)
	c := dialRaw(t, g.addr)
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	resp := c.head("GET")
	piece := make([]byte, 5)
	for i := range 4 {
		produce <- fmt.Sprintf("%05d", i)
		if _, err := io.ReadFull(resp.Body, piece); err != nil || string(piece) != fmt.Sprintf("%05d", i) {
			t.Fatalf("%q, %v", piece, err)
		}
		s.policy = fmt.Sprintf("droppable = [\"%d\"]", i)
		s.upstream = fmt.Sprintf("connect_timeout = \"%ds\"", i+10)
		g.configure(s)
		if status, body := g.ask("POST", "/reload"); status != 200 {
			t.Fatalf("reload: %d %s", status, body)
		}
	}
	close(produce)
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	if n := g.generation(); n != 5 {
		t.Errorf("generation %d", n)
	}
}
