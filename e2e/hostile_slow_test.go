//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// crowd dials n connections from one address and has each do what do says, all
// at once; it returns when all have.
func (b *siege) crowd(t *testing.T, n int, ip string, do func(i int, c net.Conn) error) {
	t.Helper()
	var all sync.WaitGroup
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: patience}
	for i := range n {
		c, err := d.Dial("tcp", b.addr)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		all.Go(func() {
			defer c.Close()
			if err := do(i, c); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
		})
	}
	all.Wait()
}

// says sends text and reads to the end of the connection, which must come in
// time: what comes must begin with want, "" for nothing.
func says(c net.Conn, text, want string) error {
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	switch {
	case isTimeout(err):
		return fmt.Errorf("%.60q: the connection goes on", text)
	case want == "" && len(got) > 0, !strings.HasPrefix(string(got), want):
		return fmt.Errorf("%.60q: answered with %.200q, want %q", text, got, want)
	}
	return nil
}

const tooSlow = "HTTP/1.1 408 "

// Whoever does not come to an end of asking is ended, and holds up nobody.
func TestHandshakesThatNeverEnd(t *testing.T) {
	t.Parallel()
	b := besiege(t, settings{limits: `handshake_timeout = "1s"`})
	b.withstands("half handshakes by the thousand", func(t *testing.T) {
		handshake := upgrade("/ws")
		halves := []struct{ text, want string }{
			{"", ""},
			{"G", tooSlow},
			{"GET / HTTP/1.1\r", tooSlow},
			{handshake[:len(handshake)/2], tooSlow},
			{handshake[:len(handshake)-2], tooSlow},
		}
		b.crowd(t, 3000, "127.0.0.2", func(i int, c net.Conn) error {
			if i == 2999 {
				b.works("in a crowd")
			}
			return says(c, halves[i%len(halves)].text, halves[i%len(halves)].want)
		})
	})
	b.withstands("heads that come byte by byte", func(t *testing.T) {
		b.crowd(t, 500, "127.0.0.2", func(_ int, c net.Conn) error {
			drip := time.NewTicker(100 * time.Millisecond)
			defer drip.Stop()
			answered := make(chan error, 1)
			go func() { answered <- says(c, "GET /", tooSlow) }()
			for {
				select {
				case err := <-answered:
					return err
				case <-drip.C:
					_, _ = io.WriteString(c, "x") // the answer tells
				}
			}
		})
	})
}

// The same on TLS: a handshake that is not finished takes no more than the time
// allowed.
func TestTLSHandshakesThatNeverEnd(t *testing.T) {
	t.Parallel()
	_, _, cert, key := selfSigned(t, "weir")
	b := besiege(t, settings{native: true, server: fmt.Sprintf("tls_cert = %q\ntls_key = %q", cert, key), limits: `handshake_timeout = "1s"`})
	b.withstands("half handshakes of TLS", func(t *testing.T) {
		b.crowd(t, 1000, "127.0.0.2", func(i int, c net.Conn) error {
			hello := "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("x", 100) // of 512 bytes
			return says(c, hello[:i%len(hello)], "")
		})
	})
	b.withstands("what is no TLS", func(t *testing.T) {
		b.crowd(t, 200, "127.0.0.2", func(_ int, c net.Conn) error {
			if err := says(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", ""); err != nil && !strings.Contains(err.Error(), "answered with") {
				return err
			}
			return nil
		})
	})
}

// A body that stops is answered within idle_timeout; one that goes on, however
// slowly, is carried to its end.
func TestBodiesThatHardlyCome(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 1000)
	b := besiege(t, settings{native: true, limits: `idle_timeout = "1s"`, urls: sink(t, seen)})
	const refused = "HTTP/1.1 400 "
	b.withstands("bodies that stop", func(t *testing.T) {
		bodies := []string{
			"Content-Length: 10\r\n\r\n", "Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n",
			"Transfer-Encoding: chunked\r\n\r\n5\r\nab", "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
		}
		b.crowd(t, 500, "127.0.0.2", func(i int, c net.Conn) error {
			return says(c, "POST / HTTP/1.1\r\nHost: a\r\n"+bodies[i%len(bodies)], refused)
		})
	})
	b.withstands("bodies that come byte by byte", func(t *testing.T) {
		b.crowd(t, 200, "127.0.0.2", func(_ int, c net.Conn) error {
			drip := time.NewTicker(100 * time.Millisecond)
			defer drip.Stop()
			_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 15\r\n\r\n")
			late, last := false, time.Now()
			for range 15 {
				<-drip.C
				if _, err := io.WriteString(c, "x"); err != nil && !late {
					return err
				}
				late, last = late || time.Since(last) > 300*time.Millisecond, time.Now()
			}
			if late { // this machine is too busy to send a byte now and then
				return nil
			}
			return says(c, "", "HTTP/1.1 200 ")
		})
	})
}

// Clients that take nothing of their answers are ended after write_timeout, and
// what waits for them is bounded by what sockets hold.
func TestClientsThatDoNotRead(t *testing.T) {
	t.Parallel()
	endless := backend(t, func(c *raw) {
		head := c.request()
		piece := frame(0x82, false, strings.Repeat("x", 32<<10))
		switch {
		case head == "":
			return
		case field(head, "Upgrade") != "":
			c.send(accept(head))
		default:
			c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			piece = fmt.Sprintf("%x\r\n%s\r\n", len(piece), piece)
		}
		for {
			if _, err := io.WriteString(c, piece); err != nil {
				return
			}
		}
	})
	b := besiege(t, settings{native: true, urls: endless, limits: "write_timeout = \"500ms\"\nslow_consumer_grace = \"500ms\"\nmax_buffered_bytes = \"64KiB\""})
	// stuck asks and reads nothing until Weir has ended n such, by its metrics.
	const n = 100
	stuck := func(t *testing.T, request, fault string) {
		ended := `weir_faults_total{code="` + fault + `"}`
		before := b.metric(ended)
		over := make(chan struct{})
		var most float64
		kernel := 0
		go func() {
			defer close(over)
			eventually(t, "clients that do not read to be ended", func() bool {
				most = max(most, b.metric("weir_queue_bytes"))
				kernel = max(kernel, b.inKernel())
				return b.metric(ended)-before >= n
			})
		}()
		b.crowd(t, n, "127.0.0.2", func(_ int, c net.Conn) error {
			_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
			_, err := io.WriteString(c, request)
			<-over
			return err
		})
		if most > n*64<<10 {
			t.Errorf("%v bytes were queued for %d clients of 64 KiB", most, n)
		}
		// 128 KiB of them unsent, and what was too much when it was written.
		if kernel == 0 || kernel > n*256<<10 {
			t.Errorf("the kernel held %d bytes for %d clients", kernel, n)
		}
	}
	b.withstands("answers nobody reads", func(t *testing.T) {
		stuck(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "slow_consumer")
	})
	b.withstands("messages nobody reads", func(t *testing.T) {
		stuck(t, upgrade("/"), "slow_consumer")
		for _, l := range b.logs.all("msg=closed", "fault=slow_consumer") {
			if l["code"] != float64(1013) {
				t.Errorf("%v", l)
			}
		}
	})
	b.withstands("a byte now and then", func(t *testing.T) {
		// It is read, so it is not ended, and costs what it may.
		b.crowd(t, 50, "127.0.0.2", func(_ int, c net.Conn) error {
			_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
			if _, err := io.WriteString(c, upgrade("/")); err != nil {
				return err
			}
			drip := time.NewTicker(100 * time.Millisecond)
			defer drip.Stop()
			piece := make([]byte, 64<<10)
			late, last := false, time.Now()
			for range 15 {
				<-drip.C
				late, last = late || time.Since(last) > 300*time.Millisecond, time.Now()
				if _, err := c.Read(piece); err != nil && !late {
					return err
				}
			}
			return nil // or late: this machine is too busy to read a byte now and then
		})
		if queued := b.metric("weir_queue_bytes"); queued > 50*64<<10 {
			t.Errorf("%v bytes are queued for 50 clients of 64 KiB", queued)
		}
	})
}

// inKernel is how many bytes the kernel holds toward Weir's clients, sent ones that
// were not acknowledged included (proc(5)).
func (g *gateway) inKernel() (sum int) {
	g.t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		g.t.Fatal(err)
	}
	_, port, _ := strings.Cut(g.addr, ":")
	n, _ := strconv.Atoi(port)
	local := fmt.Sprintf("0100007F:%04X", n)
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); f[1] == local {
			queue, _, _ := strings.Cut(f[4], ":")
			bytes, _ := strconv.ParseInt(queue, 16, 64)
			sum += int(bytes)
		}
	}
	return sum
}

// One address takes no more than its share, however it asks: what it has above
// that is closed, at first with a word, and counts for nobody else.
func TestOneAddressTakesNoMoreThanItsShare(t *testing.T) {
	t.Parallel()
	b := besiege(t, settings{limits: "max_connections = 150\nmax_connections_per_ip = 100\nhandshake_timeout = \"30s\""})
	b.withstands("connections that say nothing", func(t *testing.T) {
		const n, allowed, told = 2000, 100, 64
		var closed atomic.Int64
		over := make(chan struct{})
		go func() {
			defer close(over)
			eventually(t, "what is too much to be closed", func() bool { return closed.Load() == n-allowed-told })
			b.works("in a crowd")
			c := dialRaw(t, b.addr) // from 127.0.0.1
			c.upgrade("/ws")
			c.Close()
		}()
		b.crowd(t, n, "127.0.0.2", func(_ int, c net.Conn) error {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if _, err := c.Read(make([]byte, 1)); err == io.EOF || errors.Is(err, syscall.ECONNRESET) {
					closed.Add(1)
				}
			}()
			<-over
			c.Close()
			<-ended
			return nil
		})
	})
	b.withstands("tunnels", func(t *testing.T) {
		var opened, answered atomic.Int64
		over := make(chan struct{})
		b.crowd(t, 200, "127.0.0.2", func(_ int, c net.Conn) error {
			answer := make([]byte, 12)
			_, err := io.WriteString(c, upgrade("/ws"))
			if err == nil {
				_, err = io.ReadFull(c, answer)
			}
			switch {
			case err == nil && string(answer) == "HTTP/1.1 101":
				opened.Add(1)
			case err != nil && !isTimeout(err), string(answer) == "HTTP/1.1 503":
			default:
				t.Errorf("%q, %v", answer, err)
			}
			if answered.Add(1) == 200 {
				close(over)
			}
			<-over
			return nil
		})
		if opened.Load() != 100 {
			t.Errorf("%d tunnels were opened", opened.Load())
		}
	})
}

// A client that is lost after any number of bytes leaves nothing behind, and
// nothing of a message that it did not finish reaches its upstream.
func TestClientsLostAtEveryOffset(t *testing.T) {
	t.Parallel()
	heard := make(chan string, 5000)
	b := besiege(t, settings{native: true, urls: backend(t, func(c *raw) {
		head := c.request()
		if head == "" {
			return
		}
		_, _ = io.WriteString(c, accept(head))
		said := ""
		for {
			op, _, payload, err := c.anyFrame()
			if err != nil {
				heard <- said
				return
			}
			said += fmt.Sprintf("%x %s;", op, payload)
		}
	})})
	text := upgrade("/") + frame(0x81, true, "one") + frame(0x01, true, "t") + frame(0x80, true, "wo") + frame(0x88, true, closing(4000, "done"))
	for _, reset := range []bool{false, true} {
		b.withstands(fmt.Sprintf("clients lost at every offset, reset %v", reset), func(t *testing.T) {
			b.crowd(t, len(text)+1, "127.0.0.2", func(i int, c net.Conn) error {
				if _, err := io.WriteString(c, text[:i]); err != nil {
					return err
				}
				if tunnel := strings.Index(text, "\r\n\r\n") + 4; i > tunnel && i%2 == 0 { // others leave before they are answered
					if _, err := c.Read(make([]byte, 1)); err != nil {
						return err
					}
				}
				if reset {
					return c.(*net.TCPConn).SetLinger(0)
				}
				return nil
			})
		})
	}
	b.withstands("tunnels that come and go by the thousand", func(t *testing.T) {
		b.crowd(t, 2000, "127.0.0.2", func(i int, c net.Conn) error {
			answer := make([]byte, 12)
			if _, err := io.WriteString(c, upgrade("/")+frame(0x81, true, "one")); err != nil {
				return err
			}
			if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "HTTP/1.1 101" {
				return fmt.Errorf("%q, %v", answer, err)
			}
			if i%2 == 0 {
				return c.(*net.TCPConn).SetLinger(0)
			}
			return nil
		})
	})
	ends := map[string]bool{}
	for len(heard) > 0 {
		said := <-heard
		messages, end, _ := strings.Cut(said, "88 ")
		ends[end] = true
		switch {
		case messages != "" && messages != "81 one;" && messages != "81 one;1 t;80 wo;",
			end != "" && end != closing(4000, "done")+";" && !strings.HasPrefix(end, closing(1001, "client connection")):
			t.Errorf("an upstream heard %q", said)
		}
	}
	if len(ends) < 2 {
		t.Errorf("all tunnels ended with %v", ends)
	}
}
