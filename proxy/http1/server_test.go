package http1

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"weir/proxy/nettest"
)

func TestKeepAliveAndPipelining(t *testing.T) {
	c := dial(t, listen(t, &Server{Handler: hello}))
	c.send(get)
	c.expect(gotA)
	c.send(strings.Repeat(get, 3))
	c.expect(strings.Repeat(gotA, 3))
	c.send("GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + get)
	c.expect("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\n/a")
	c.expectEnd()
}

func TestPipelinedInPieces(t *testing.T) {
	c := dial(t, listen(t, &Server{Handler: hello}))
	for _, b := range []byte(get + get) {
		c.send(string(b))
	}
	c.expect(gotA + gotA)
}

func TestHTTP10(t *testing.T) {
	addr := listen(t, &Server{Handler: func(x *Exchange) {
		if string(x.Req.Target) == "/known" {
			hello(x)
			return
		}
		_ = x.Start(-1)
		_, _ = x.Write([]byte("hello"))
		_ = x.Finish()
	}})
	c := dial(t, addr)
	c.send("GET /known HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
	c.expect("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\nConnection: keep-alive\r\n\r\n/known")
	c.send("GET /unknown HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
	c.expect("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")
	c.expectEnd()
	c = dial(t, addr)
	c.send("GET /known HTTP/1.0\r\n\r\n")
	c.expect("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\nConnection: close\r\n\r\n/known")
	c.expectEnd()
}

func TestAnswersWithoutBody(t *testing.T) {
	c := dial(t, listen(t, &Server{Handler: func(x *Exchange) {
		switch string(x.Req.Target) {
		case "/304":
			x.Resp.Status = 304
			_ = x.Start(7)
		case "/204":
			x.Resp.Status = 204
			_ = x.Start(0)
		case "/chunked":
			_ = x.Start(-1)
			_, _ = x.Write([]byte("hello"))
		default:
			_ = x.Respond(200, "", []byte("hello"))
			return
		}
		_ = x.Finish()
	}}))
	c.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
	c.expect("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
	c.send("HEAD /chunked HTTP/1.1\r\nHost: a\r\n\r\n")
	c.expect("HTTP/1.1 200 OK\r\n\r\n")
	c.send("GET /304 HTTP/1.1\r\nHost: a\r\n\r\n")
	c.expect("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n")
	c.send("GET /204 HTTP/1.1\r\nHost: a\r\n\r\n")
	c.expect("HTTP/1.1 204 No Content\r\n\r\n")
}

// The fields of an answer go as they are: nothing is added, nothing merged.
func TestFieldsAreNotChanged(t *testing.T) {
	const fields = "Set-Cookie: a=b; Path=/\r\nSet-Cookie: a=b; path=\"/c\"\r\nDate: long ago\r\nX-A: 1\r\nX-B: \xe9  x\r\nX-A: 2\r\n"
	c := dial(t, listen(t, &Server{Handler: func(x *Exchange) {
		head := "HTTP/1.1 299 So So\r\nConnection: x\r\nKeep-Alive: 5\r\nContent-Length: 3\r\n" + fields + "\r\n"
		if _, err := x.Resp.Parse([]byte(head), x.Req.Method); err != nil {
			t.Error(err)
		}
		_ = x.Start(2)
		_, _ = x.Write([]byte("hi"))
		_ = x.Finish()
	}}))
	c.send(get)
	c.expect("HTTP/1.1 299 So So\r\n" + fields + "Content-Length: 2\r\n\r\nhi")
}

func TestAbsoluteFormOverridesHost(t *testing.T) {
	c := dial(t, listen(t, &Server{Handler: func(x *Exchange) {
		_ = x.Respond(200, "", append(append(x.Req.Host, ' '), x.Req.Target...))
	}}))
	c.send("GET http://b:81?c HTTP/1.1\r\nHost: a\r\n\r\n")
	c.expect("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nb:81 /?c")
}

func TestChunkedAnswerComesAsItIsProduced(t *testing.T) {
	more := make(chan struct{})
	c := dial(t, listen(t, &Server{Handler: func(x *Exchange) {
		_ = x.Start(-1)
		_ = x.Flush()
		for range 2 {
			nettest.Within(t, more, "the request for more")
			_, _ = x.Write([]byte("hello"))
			_ = x.Flush()
		}
		nettest.Within(t, more, "the request for more")
		x.Trailer = []byte("X-Sum: 2\r\n")
		_ = x.Finish()
	}}))
	c.send(get)
	c.expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
	for range 2 {
		more <- struct{}{}
		c.expect("5\r\nhello\r\n")
	}
	more <- struct{}{}
	c.expect("0\r\nX-Sum: 2\r\n\r\n")
	c.send("x") // the connection is kept: a wrong request is answered
	c.nc.CloseWrite()
	c.expectEnd()
}

func TestLargeAnswer(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789abcdef"), 20000)
	for _, length := range []int64{int64(len(want)), -1} {
		c := dial(t, listen(t, &Server{Handler: func(x *Exchange) {
			_ = x.Start(length)
			for rest := want; len(rest) > 0; {
				n := min(len(rest), 1+len(rest)/3)
				if k, err := x.Write(rest[:n]); k != n || err != nil {
					t.Error(k, err)
				}
				rest = rest[n:]
			}
			if err := x.Finish(); err != nil || x.BytesWritten() != int64(len(want)) {
				t.Error(err)
			}
		}}))
		c.send(get)
		head := []byte(c.head())
		info, err := new(Response).Parse(head, []byte("GET"))
		if err != nil {
			t.Fatal(err)
		}
		var b BodyReader
		b.Reset(newReaderOf(c.br), &info)
		if got, err := io.ReadAll(&b); err != nil || !bytes.Equal(got, want) {
			t.Errorf("length %d: %d bytes, %v", length, len(got), err)
		}
	}
}

func TestAnswerShorterOrLongerThanItsLength(t *testing.T) {
	result := make(chan error, 1)
	addr := listen(t, &Server{Handler: func(x *Exchange) {
		_ = x.Start(5)
		if _, err := x.Write([]byte("hell")); err != nil {
			t.Error(err)
		}
		if string(x.Req.Target) == "/long" {
			_, err := x.Write([]byte("ooo"))
			result <- err
			return
		}
		result <- x.Finish()
	}})
	for _, target := range []string{"/short", "/long"} {
		c := dial(t, addr)
		c.send("GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n")
		if err := nettest.Within(t, result, "the answer"); err != ErrLength {
			t.Errorf("%s: %v", target, err)
		}
		_, _ = io.ReadAll(c.br) // it ends
	}
}

func TestAbortIsSeen(t *testing.T) {
	addr := listen(t, &Server{Handler: func(x *Exchange) {
		_ = x.Start(-1)
		_, _ = x.Write([]byte("hello"))
		if x.Info.HTTP10 {
			_ = x.Flush()
		}
		x.Abort()
	}})
	c := dial(t, addr)
	c.send(get)
	c.expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	c.expectEnd() // without the last chunk
	c = dial(t, addr)
	c.send("GET / HTTP/1.0\r\n\r\n")
	if _, err := io.ReadAll(c.br); err == nil {
		t.Error("an aborted answer without framing ended cleanly")
	}
}

// An answer that ends with its connection is cut by a reset alone, whoever cuts it.
func TestWhatEndsWithItsConnectionIsReset(t *testing.T) {
	for _, c := range []struct {
		name  string
		close bool // the server; else the handler panics
	}{{"the server closes", true}, {"the handler panics", false}} {
		over := make(chan struct{})
		s := &Server{Panic: func(any, []byte) {}, Handler: func(x *Exchange) {
			_ = x.Start(-1)
			_, _ = x.Write([]byte("hello"))
			_ = x.Flush()
			<-over
			if !c.close {
				panic("made to")
			}
		}}
		client := dial(t, listen(t, s))
		client.send("GET / HTTP/1.0\r\n\r\n")
		client.expect("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")
		if c.close {
			s.Close()
		} else {
			close(over)
		}
		if _, err := io.ReadAll(client.br); err == nil {
			t.Errorf("%s: the answer ended cleanly", c.name)
		}
		if c.close {
			close(over)
		}
	}
}

func TestMalformedRequestsAreAnsweredAndClosed(t *testing.T) {
	addr := listen(t, &Server{
		Handler: func(x *Exchange) {
			if x.Body != nil {
				if _, err := io.ReadAll(x.Body); err != nil {
					e, ok := errors.AsType[*Error](err)
					if !ok {
						t.Error(err)
						x.Abort()
						return
					}
					_ = x.Respond(e.Status, "", nil)
					return
				}
			}
			_ = x.Respond(200, "", nil)
		},
		Refuse: func(x *Exchange, e *Error) { _ = x.Respond(e.Status, "text/plain", []byte(e.Error())) },
	})
	for _, m := range loadMalformed(t) {
		t.Run(m.name, func(t *testing.T) {
			c := dial(t, addr)
			c.send(m.request + get)
			head := c.head()
			if got := head[len("HTTP/1.1 "):][:3]; got != itoa(m.status) {
				t.Errorf("status %s, want %d", got, m.status)
			}
			if !strings.Contains(head, "Connection: close\r\n") {
				t.Errorf("the connection is not closed: %q", head)
			}
			c.nc.CloseWrite()
			rest, err := io.ReadAll(c.br)
			if err != nil || strings.Contains(string(rest), "HTTP/1.1 ") && strings.Contains(string(rest), " OK") {
				t.Errorf("behind the answer: %q %v", rest, err)
			}
		})
	}
}

// What is wrong before the first byte of a request is said of that byte.
func TestRequestsThatBeginWrong(t *testing.T) {
	addr := listen(t, &Server{Handler: hello, Refuse: func(x *Exchange, e *Error) {
		_ = x.Respond(e.Status, "text/plain", []byte(e.Error()))
	}})
	f := func(before, reason string) {
		t.Helper()
		c := dial(t, addr)
		c.send(before + get)
		c.head()
		c.expect("line 1 of the head: " + reason)
	}
	f("\r\n", "an empty line before the request line")
	f("\n", "an empty line before the request line")
	f("\x16\x03\x01", "a request that begins with something else than a method")
}

func TestPanicEndsItsConnectionOnly(t *testing.T) {
	panics := make(chan any, 1)
	s := &Server{
		Handler: func(x *Exchange) {
			if string(x.Req.Target) == "/panic" {
				panic("at the disco")
			}
			hello(x)
		},
		Panic: func(v any, stack []byte) {
			if !bytes.Contains(stack, []byte("TestPanicEndsItsConnectionOnly")) {
				t.Errorf("the stack does not show where: %s", stack)
			}
			panics <- v
		},
	}
	addr := listen(t, s)
	other, c := dial(t, addr), dial(t, addr)
	other.send(get)
	other.expect(gotA)
	c.send("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n")
	if v := nettest.Within(t, panics, "Panic"); v != "at the disco" {
		t.Error(v)
	}
	c.expectEnd()
	other.send(get)
	other.expect(gotA)
}

const lastA = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\n/a"

// To close with unread bytes would reset the connection, and the client lose what
// it has not received yet.
func TestTheLastAnswerReachesAClientThatPipelines(t *testing.T) {
	f := func(name string, drain bool, head string) {
		t.Run(name, func(t *testing.T) {
			entered, leave := make(chan struct{}), make(chan struct{})
			s := &Server{Handler: func(x *Exchange) {
				if !drain {
					x.CloseAfter()
				}
				close(entered)
				nettest.Within(t, leave, "leave")
				_ = x.Start(2)
				_, _ = x.Write([]byte("/a"))
				_ = x.Finish()
			}}
			c := dial(t, listen(t, s))
			c.send(get)
			nettest.Within(t, entered, "the request")
			c.send(get)
			if drain {
				s.Drain()
			}
			close(leave)
			c.expect(head + "\r\n/a")
			c.expectEnd()
		})
	}
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
	f("closed for the answer", false, head+"Connection: close\r\n")
	f("a drain before it begins", true, head+"Connection: close\r\n")
}
