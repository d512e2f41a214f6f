//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// scripted is an upstream that does to each connection what the test says at
// the moment, once it has read a request.
type scripted struct {
	url  string
	does atomic.Pointer[func(c *raw, head string)]
}

func script(t *testing.T) *scripted {
	s := &scripted{}
	s.url = backend(t, func(c *raw) {
		for {
			head := c.request()
			if head == "" {
				return
			}
			(*s.does.Load())(c, head)
			if strings.Contains(head, "/once") {
				return
			}
		}
	})
	return s
}

func (s *scripted) say(does func(c *raw, head string)) { s.does.Store(&does) }

// silence holds the connection until the other side ends it.
func silence(c *raw, _ string) { _, _ = io.Copy(io.Discard, c.br) }

// saying sends text and then nothing.
func saying(text string) func(*raw, string) {
	return func(c *raw, head string) {
		_, _ = io.WriteString(c, text)
		silence(c, head)
	}
}

// endless sends one piece and then another again and again, while it is taken.
func endless(first, again string) func(*raw, string) {
	return func(c *raw, _ string) {
		_, err := io.WriteString(c, first)
		for again := strings.Repeat(again, 1+4096/len(again)); err == nil; {
			_, err = io.WriteString(c, again)
		}
	}
}

// dripping sends text a byte at a time, ten a second.
func dripping(text string) func(*raw, string) {
	return func(c *raw, _ string) {
		drip := time.NewTicker(100 * time.Millisecond)
		defer drip.Stop()
		for i := range len(text) {
			<-drip.C
			if _, err := io.WriteString(c, text[i:i+1]); err != nil {
				return
			}
		}
		silence(c, "")
	}
}

// ending sends text and ends the connection.
func ending(text string) func(*raw, string) {
	return func(c *raw, _ string) {
		_, _ = io.WriteString(c, text)
		_ = c.Close()
	}
}

const (
	okHead = "HTTP/1.1 200 OK\r\n"
	long   = "GET /once HTTP/1.1\r\nHost: a\r\n\r\n"
)

// Whatever an upstream answers to a request, its client is told in time, and
// told the truth.
func TestUpstreamsThatAnswerBadly(t *testing.T) {
	t.Parallel()
	up := script(t)
	b := besiege(t, settings{native: true, urls: up.url, limits: `handshake_timeout = "1s"`, upstream: `response_timeout = "1s"`})
	drips := strings.Repeat("X-A: b\r\n", 100)
	b.withstands("requests", func(t *testing.T) {
		for _, c := range []struct {
			name string
			does func(*raw, string)
			want string // status and fault
		}{
			{"nothing", silence, "504 upstream_timeout"},
			{"the end", ending(""), "502 upstream_closed"},
			{"half a head", saying("HTTP/1.1 200 OK\r\nContent-Le"), "504 upstream_timeout"},
			{"half a head and the end", ending("HTTP/1.1 200 OK\r\nContent-Le"), "502 upstream_closed"},
			{"a head without its blank line", saying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"), "504 upstream_timeout"},
			{"a head that comes byte by byte", dripping(okHead + drips), "504 upstream_timeout"},
			{"fields without end", endless(okHead, "X-A: b\r\n"), "502 upstream_closed"},
			{"a field without end", endless(okHead+"X-A: ", "bbbb"), "502 upstream_closed"},
			{"a status line without end", endless("HTTP/1.1 200 ", "OK OK "), "502 upstream_closed"},
			{"blank lines without end", endless("", "\r\n"), "502 upstream_closed"},
			{"informational answers without end", endless("", "HTTP/1.1 100 Continue\r\n\r\n"), "502 upstream_closed"},
			{"informational answers byte by byte", dripping(strings.Repeat("HTTP/1.1 103 Early\r\n\r\n", 100)), "504 upstream_timeout"},
			{"no HTTP", saying("220 mail.example ESMTP\r\n\r\n"), "502 upstream_closed"},
			{"HTTP/2", saying("\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64\r\n\r\n"), "502 upstream_closed"},
			{"TLS", saying("\x15\x03\x01\x00\x02\x02\x46\r\n\r\n"), "502 upstream_closed"},
			{"101", saying("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x02hi"), "502 upstream_closed"},
			{"two lengths", saying(okHead + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nok"), "502 upstream_closed"},
			{"a length and chunks", saying(okHead + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "502 upstream_closed"},
			{"a length that is none", saying(okHead + "Content-Length: -2\r\n\r\nok"), "502 upstream_closed"},
			{"a coding that is unknown", saying(okHead + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), "502 upstream_closed"},
			{"folded fields", saying(okHead + "X-A: b\r\n c\r\nContent-Length: 0\r\n\r\n"), "502 upstream_closed"},
			{"bare line feeds", saying("HTTP/1.1 200 OK\nContent-Length: 2\n\nok"), "502 upstream_closed"},
			{"a status of two digits", saying("HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"), "502 upstream_closed"},
		} {
			up.say(c.does)
			b.refused(t, c.name, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", c.want)
		}
	})
	b.withstands("handshakes", func(t *testing.T) {
		const switching = "HTTP/1.1 101 Switching Protocols\r\n"
		accepted := func(change func(string) string) func(*raw, string) {
			return func(c *raw, head string) { saying(change(accept(head)))(c, head) }
		}
		replaced := func(old, by string) func(*raw, string) {
			return accepted(func(s string) string { return strings.Replace(s, old, by, 1) })
		}
		for _, c := range []struct {
			name string
			does func(*raw, string)
			want string
		}{
			{"nothing", silence, "504 upstream_timeout"},
			{"the end", ending(""), "502 upstream_closed"},
			{"half a head", saying(switching + "Upgrade: webs"), "504 upstream_timeout"},
			{"a head that comes byte by byte", dripping(switching + drips), "504 upstream_timeout"},
			{"fields without end", endless(switching, "X-A: b\r\n"), "502 upstream_closed"},
			{"no accept key", saying(switching + "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"), "502 upstream_unavailable"},
			{"a wrong accept key", saying(switching + "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n"), "502 upstream_unavailable"},
			{"another protocol", replaced("Upgrade: websocket", "Upgrade: h2c"), "502 upstream_unavailable"},
			{"no upgrade", replaced("Upgrade: websocket\r\n", ""), "502 upstream_unavailable"},
			{"no connection field", replaced("Connection: Upgrade\r\n", ""), "502 upstream_unavailable"},
			{"an extension", replaced("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"), "502 upstream_unavailable"},
			{"a subprotocol", replaced("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n"), "502 upstream_unavailable"},
			{"a length", replaced("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\nhello"), "502 upstream_unavailable"},
			{"chunks", replaced("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "502 upstream_unavailable"},
		} {
			up.say(c.does)
			b.refused(t, c.name, upgrade("/"), c.want)
		}
	})
}

// refused sends a request and holds its answer to the status and the fault code
// of want.
func (b *siege) refused(t *testing.T, name, request, want string) {
	t.Helper()
	conn := dialRaw(t, b.addr)
	conn.send(request)
	if _, err := conn.br.Peek(1); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	a := conn.response("GET")
	var p problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || fmt.Sprint(a.StatusCode, " ", p.Code) != want {
		t.Errorf("%s: %s %q, want %s", name, a.Status, a.body, want)
	}
	conn.Close()
	b.works("behind " + name)
}

// What an upstream says beside its answer is nobody else's answer.
func TestAnswersNobodyAskedFor(t *testing.T) {
	t.Parallel()
	up := script(t)
	b := besiege(t, settings{native: true, urls: up.url})
	const own, evil = okHead + "Content-Length: 3\r\n\r\nown", okHead + "Content-Length: 4\r\n\r\nevil"
	b.withstands("answers behind answers", func(t *testing.T) {
		for name, answer := range map[string]string{
			"at once": own + evil, "a part of one": own + evil[:20], "a byte": own + "x", "behind chunks": okHead + "Transfer-Encoding: chunked\r\n\r\n3\r\nown\r\n0\r\n\r\n" + evil,
			"behind nothing": "HTTP/1.1 204 No Content\r\n\r\n" + evil,
		} {
			for range 10 {
				up.say(func(c *raw, _ string) { _, _ = io.WriteString(c, answer) })
				if a := b.get("/"); a.body != "own" && a.StatusCode != 204 {
					t.Errorf("%s: %s %q", name, a.Status, a.body)
				}
			}
		}
		taken, said := make(chan struct{}), make(chan struct{})
		up.say(func(c *raw, _ string) {
			_, _ = io.WriteString(c, own)
			<-taken
			_, _ = io.WriteString(c, evil)
			said <- struct{}{}
		})
		for range 5 {
			c := dialRaw(t, b.addr)
			c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
			if a := c.response("POST"); a.body != "own" {
				t.Errorf("%s %q", a.Status, a.body)
			}
			c.Close()
			taken <- struct{}{}
			<-said // before anybody asks
		}
	})
	b.withstands("bodies without end", func(t *testing.T) {
		piece := strings.Repeat("x", 32<<10)
		for name, does := range map[string]func(*raw, string){
			"chunks":           endless(okHead+"Transfer-Encoding: chunked\r\n\r\n", fmt.Sprintf("%x\r\n%s\r\n", len(piece), piece)),
			"one chunk":        endless(okHead+"Transfer-Encoding: chunked\r\n\r\n7fffffffffffff\r\n", piece),
			"tiny chunks":      endless(okHead+"Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
			"a length of 2^62": endless(okHead+"Content-Length: 4611686018427387904\r\n\r\n", piece),
			"no length":        endless(okHead+"Connection: close\r\n\r\n", piece),
		} {
			up.say(does)
			before := b.resident()
			c := dialRaw(t, b.addr)
			c.send(long)
			enough := int64(64 * mib)
			if name == "tiny chunks" {
				enough = mib
			}
			if n, err := io.CopyN(io.Discard, c.head("GET").Body, enough); err != nil {
				t.Errorf("%s: %d bytes, %v", name, n, err)
			}
			if grown := b.resident() - before; grown > 32*mib {
				t.Errorf("%s: %d MiB more are resident", name, grown/mib)
			}
			c.Close()
		}
	})
	b.withstands("trailers without end", func(t *testing.T) {
		for name, does := range map[string]func(*raw, string){
			"many":  endless(okHead+"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", "X-A: b\r\n"),
			"one":   endless(okHead+"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-A: ", "b"),
			"sizes": endless(okHead+"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", "0"),
		} {
			up.say(does)
			c := dialRaw(t, b.addr)
			c.send(long)
			if body, err := io.ReadAll(c.head("GET").Body); err == nil || isTimeout(err) {
				t.Errorf("%s: %q, %v; want it cut", name, body, err)
			}
			c.Close()
		}
	})
}

// A connection that is lost after any number of bytes is told of as such: no
// part ever looks like the whole.
func TestUpstreamsLostAtEveryOffset(t *testing.T) {
	t.Parallel()
	up := script(t)
	b := besiege(t, settings{native: true, urls: up.url})
	// lost sends the first n bytes of text and is gone, in order or not.
	lost := func(text func(head string) string, n int, reset bool) func(*raw, string) {
		return func(c *raw, head string) {
			_, _ = io.WriteString(c, text(head)[:n])
			if reset {
				_ = c.Conn.(*net.TCPConn).SetLinger(0)
			}
			_ = c.Close()
		}
	}
	each := func(name string, size int, text func(head string) string, judge func(t *testing.T, n int, reset bool)) {
		for _, reset := range []bool{false, true} {
			b.withstands(fmt.Sprintf("%s, reset %v", name, reset), func(t *testing.T) {
				for n := range size + 1 {
					up.say(lost(text, n, reset))
					judge(t, n, reset)
				}
			})
		}
	}
	for name, answer := range map[string]string{
		"an answer of a length": okHead + "Content-Length: 5\r\n\r\nhello",
		"an answer in chunks":   okHead + "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\n\r\n",
	} {
		each(name, len(answer), func(string) string { return answer }, func(t *testing.T, n int, reset bool) {
			c := dialRaw(t, b.addr)
			defer c.Close()
			c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			resp := c.head("GET")
			body, err := io.ReadAll(resp.Body)
			switch whole := n == len(answer); {
			case isTimeout(err):
				t.Errorf("%d of %d bytes: the answer goes on", n, len(answer))
			case resp.StatusCode == 502 && err == nil && (!whole || reset):
			case resp.StatusCode == 200 && err != nil && (!whole || reset) && strings.HasPrefix("hello", string(body)):
			case resp.StatusCode == 200 && err == nil && whole && string(body) == "hello":
			default:
				t.Errorf("%d of %d bytes: %s, %q, %v", n, len(answer), resp.Status, body, err)
			}
		})
	}
	exchange := func(head string) string {
		return accept(head) + frame(0x81, false, "one") + frame(0x01, false, "t") + frame(0x80, false, "wo") + frame(0x88, false, closing(4000, "done"))
	}
	size := len(exchange("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))
	handshake := len(accept("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))
	each("a handshake and two messages", size, exchange, func(t *testing.T, n int, reset bool) {
		c := dialRaw(t, b.addr)
		defer c.Close()
		c.send(upgrade("/"))
		resp, err := http.ReadResponse(c.br, nil)
		if err != nil {
			t.Fatalf("%d of %d bytes: %v", n, size, err)
		}
		if resp.StatusCode != 101 {
			if resp.StatusCode != 502 || n >= handshake && !reset {
				t.Errorf("%d of %d bytes: %s", n, size, resp.Status)
			}
			return
		}
		said := ""
		for {
			op, _, payload, err := c.anyFrame()
			if err != nil {
				if n < handshake || !errors.Is(err, io.EOF) {
					t.Errorf("%d of %d bytes: %q, then %v", n, size, said, err)
				}
				break
			}
			said += fmt.Sprintf("%x %s;", op, payload)
		}
		whole := "81 one;1 t;80 wo;88 " + closing(4000, "done") + ";"
		messages, end, _ := strings.Cut(said, "88 ")
		switch {
		case said == whole && n == size:
		case said != whole && n < size || reset:
			if !strings.HasPrefix(whole, messages) || !strings.HasPrefix(end, closing(1012, "upstream_closed")) {
				t.Errorf("%d of %d bytes: told %q", n, size, said)
			}
		default:
			t.Errorf("%d of %d bytes: told %q", n, size, said)
		}
	})
}
