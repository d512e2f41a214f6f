//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

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

// Frames go on as they came: the same bytes, the same masks, the same cuts.
func TestFramesAreForwardedVerbatim(t *testing.T) {
	t.Parallel()
	url, conns := socketBackend(t)
	g := start(t, settings{urls: url})
	c := g.socket(t, "/")
	up := receive(t, "the upstream", conns)
	masked := "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58" + // RFC 6455 §5.7: "Hello"
		"\x01\x83\x01\x02\x03\x04\x49\x67\x6f" + "\x89\x80\x05\x06\x07\x08" + "\x80\x82\x11\x12\x13\x14\x7d\x7d" + // "Hel", a ping, "lo"
		"\x82\x80\x09\x0a\x0b\x0c"
	c.send(masked)
	got := make([]byte, len(masked))
	if _, err := io.ReadFull(up.br, got); err != nil {
		t.Fatal(err)
	}
	// A ping between fragments passes at once, before the message that is held.
	want := masked[:11] + "\x89\x80\x05\x06\x07\x08" + masked[11:20] + masked[26:]
	if string(got) != want && string(got) != masked {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	plain := frame(0x81, false, "Hello") + frame(0x02, false, "a") + frame(0x80, false, "") + frame(0x82, false, strings.Repeat("x", 300))
	up.send(plain)
	got = make([]byte, len(plain))
	if _, err := io.ReadFull(c.br, got); err != nil || string(got) != plain {
		t.Errorf("got  %x, %v\nwant %x", got, err, plain)
	}
}

// A large message is upstream before its end is sent, and a client that dies
// within one never makes it look whole.
func TestALargeMessagePassesAsItComes(t *testing.T) {
	t.Parallel()
	url, conns := socketBackend(t)
	g := start(t, settings{urls: url})
	c := g.socket(t, "/")
	up := receive(t, "the upstream", conns)
	const size, half = 8 << 20, 4 << 20
	whole := frameOf(0x82, true, size, strings.Repeat("x", size))
	go func() { // ends with the connection
		_, _ = io.WriteString(c, whole[:half])
	}()
	got := make([]byte, half-(64<<10))
	if _, err := io.ReadFull(up.br, got); err != nil || string(got) != whole[:len(got)] {
		t.Fatalf("half of a message that is not complete: %v", err)
	}
	c.Close()
	rest, _ := io.ReadAll(up.br)
	if len(got)+len(rest) > half {
		t.Errorf("%d bytes of a message of which %d were sent: %q", len(got)+len(rest), half, rest[max(0, len(rest)-60):])
	}
	g.logs.wait("the close", "msg=closed", "initiator=client")
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

// A backend whose health check fails gets no work until it is well again.
func TestAnUnhealthyBackendIsLeftOut(t *testing.T) {
	t.Parallel()
	serve := func(name string, health <-chan string) string {
		status := "200 OK"
		return backend(t, func(c *raw) {
			for {
				head := c.request()
				if head == "" {
					return
				}
				if !strings.HasPrefix(head, "GET /healthz ") {
					c.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + name)
					continue
				}
				select {
				case status = <-health: // only one connection asks at a time
				default:
				}
				c.send("HTTP/1.1 " + status + "\r\nContent-Length: 0\r\n\r\n")
			}
		})
	}
	health := make(chan string, 1)
	g := start(t, settings{native: true, urls: serve("a", nil) + "," + serve("b", health), upstream: `health_path = "/healthz"`})
	ask := func() (who string) {
		for range 8 {
			who += g.get("/").body
		}
		return who
	}
	eventually(t, "both to answer", func() bool { w := ask(); return strings.Contains(w, "a") && strings.Contains(w, "b") })
	health <- "500 Sick"
	eventually(t, "the sick one to be left out", func() bool { return ask() == "aaaaaaaa" })
	health <- "200 OK"
	eventually(t, "it to be back", func() bool { return strings.Contains(ask(), "b") })
}
