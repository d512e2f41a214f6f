//go:build e2e

package e2e

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// raw is a connection on which bytes matter.
type raw struct {
	net.Conn
	t  *testing.T
	br *bufio.Reader
}

func newRaw(t *testing.T, c net.Conn) *raw {
	_ = c.SetDeadline(time.Now().Add(patience))
	return &raw{Conn: c, t: t, br: bufio.NewReader(c)}
}

func dialRaw(t *testing.T, addr string) *raw {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return newRaw(t, c)
}

// dialTLS is dialRaw of a listener with a certificate of its own.
func dialTLS(t *testing.T, addr string) *raw {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return newRaw(t, c)
}

func (c *raw) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// response reads an answer to a request of this method, with its body.
func (c *raw) response(method string) answer {
	c.t.Helper()
	resp := c.head(method)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s, then %q, %v", resp.Status, body, err)
	}
	return answer{resp, string(body)}
}

// head reads an answer up to its body.
func (c *raw) head(method string) *http.Response {
	c.t.Helper()
	resp, err := http.ReadResponse(c.br, &http.Request{Method: method})
	if err != nil {
		c.t.Fatal(err)
	}
	return resp
}

// ended fails unless the peer closes the connection now, without another byte.
func (c *raw) ended() {
	c.t.Helper()
	rest, err := io.ReadAll(c.br)
	if len(rest) > 0 || (err != nil && !errors.Is(err, net.ErrClosed) && isTimeout(err)) {
		c.t.Fatalf("connection goes on: %q, %v", rest, err)
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// request reads a request head as it came, without its final blank line; "" at
// the end of the connection.
func (c *raw) request() string {
	var b strings.Builder
	for {
		line, err := c.br.ReadString('\n')
		if err != nil {
			return ""
		}
		if line == "\r\n" {
			return b.String()
		}
		b.WriteString(line)
	}
}

// backend listens on loopback and runs serve for each connection; it returns
// its URL. When the test ends, every connection is closed and joined.
func backend(t *testing.T, serve func(c *raw)) string {
	t.Helper()
	return listening(t, func() {}, serve)
}

// listening is backend, and calls accepted for one connection after the other.
func listening(t *testing.T, accepted func(), serve func(c *raw)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
	)
	all.Go(func() { // ends when l is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			accepted()
			all.Go(func() {
				defer c.Close()
				serve(newRaw(t, c))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return "http://" + l.Addr().String()
}

// answering is a backend that answers every request with the same bytes, and
// hands the heads that it read to seen, which may be nil.
func answering(t *testing.T, response string, seen chan<- string) string {
	return backend(t, func(c *raw) {
		for {
			head := c.request()
			if head == "" {
				return
			}
			if seen != nil {
				seen <- head
			}
			if _, err := io.WriteString(c, response); err != nil {
				return
			}
		}
	})
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// field is the value of a header field in a head as it came.
func field(head, name string) string {
	for line := range strings.SplitSeq(head, "\r\n") {
		if n, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(n, name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// fields are all of its values.
func fields(head, name string) (all []string) {
	for line := range strings.SplitSeq(head, "\r\n") {
		if n, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(n, name) {
			all = append(all, strings.TrimSpace(value))
		}
	}
	return all
}
