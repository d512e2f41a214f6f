package http1

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"weir/proxy/nettest"
)

func newReaderOf(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, 8<<10) }

func itoa(n int) string { return strconv.Itoa(n) }

const expecting = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"

func TestContinueIsSentWhenTheBodyIsRead(t *testing.T) {
	entered, read := make(chan struct{}), make(chan struct{})
	c := dial(t, listen(t, &Server{Handler: func(x *Exchange) {
		entered <- struct{}{}
		nettest.Within(t, read, "read")
		b, err := io.ReadAll(x.Body)
		if err != nil {
			t.Error(err)
		}
		_ = x.Respond(200, "", b)
	}}))
	for range 2 {
		c.send(expecting)
		nettest.Within(t, entered, "the handler")
		if c.br.Buffered() > 0 {
			t.Error("100 before the body was read")
		}
		read <- struct{}{}
		c.expect("HTTP/1.1 100 Continue\r\n\r\n")
		c.send("hi")
		c.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
	}
}

func TestContinueIsNotSentForAnAnswerWithoutTheBody(t *testing.T) {
	f := func(answer func(*Exchange)) {
		t.Helper()
		c := dial(t, listen(t, &Server{Handler: answer}))
		c.send(expecting)
		c.expect("HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		_ = c.nc.CloseWrite()
		c.expectEnd()
	}
	f(func(x *Exchange) { _ = x.Respond(413, "", nil) })
	f(func(x *Exchange) {
		x.Resp.Status = 413
		_ = x.Start(0)
		_ = x.Finish()
	})
}

func TestInterimAnswersHaveNoFraming(t *testing.T) {
	c := dial(t, listen(t, &Server{Handler: func(x *Exchange) {
		_, err := x.Resp.Parse([]byte("HTTP/1.1 103 Early Hints\r\nLink: a\r\nContent-Length: 5\r\nConnection: close\r\nTrailer: x\r\n\r\n"), x.Req.Method)
		for range 2 {
			err = errors.Join(err, x.Interim())
		}
		x.Resp.Reset()
		if err = errors.Join(err, x.Respond(200, "", nil)); err != nil || !errors.Is(x.Interim(), ErrStarted) {
			t.Error(err)
		}
	}}))
	const hints = "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
	for range 2 {
		c.send(get)
		c.expect(hints + hints + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
}

func TestTheUpgradeOfA426IsListed(t *testing.T) {
	addr := listen(t, &Server{Handler: func(x *Exchange) {
		x.Resp.Set("Upgrade", "X/1")
		_ = x.Respond(426, "", nil)
	}})
	f := func(request, connection string) {
		t.Helper()
		c := dial(t, addr)
		c.send(request + "\r\n\r\n")
		c.expect("HTTP/1.1 426 Upgrade Required\r\nUpgrade: X/1\r\nContent-Length: 0\r\nConnection: " + connection + "\r\n\r\n")
	}
	f("GET / HTTP/1.1\r\nHost: a", "Upgrade")
	f("GET / HTTP/1.1\r\nHost: a\r\nConnection: close", "close, Upgrade")
	f("GET / HTTP/1.0\r\nConnection: keep-alive", "keep-alive, Upgrade")
}

func TestUnreadBodies(t *testing.T) {
	addr := listen(t, &Server{Handler: func(x *Exchange) {
		if string(x.Req.Target) == "/stream" {
			_ = x.Start(2)
			_, _ = x.Write([]byte("/a"))
			_ = x.Finish()
			return
		}
		hello(x)
	}})
	t.Run("small and here: the connection stays", func(t *testing.T) {
		c := dial(t, addr)
		c.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" + get)
		c.expect(gotA + gotA)
		c.send("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + get)
		c.expect(gotA + gotA)
	})
	t.Run("small and on its way: the connection stays", func(t *testing.T) {
		c := dial(t, addr)
		c.send("POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
		c.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n/a")
		c.send("hello" + get)
		c.expect(gotA)
	})
	t.Run("large: the answer arrives, then the connection closes", func(t *testing.T) {
		c := dial(t, addr)
		c.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\r\n")
		c.send(strings.Repeat("x", 400000))
		c.expect("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\n/a")
		c.nc.CloseWrite()
		c.expectEnd()
	})
	t.Run("other requests behind the last: its answer arrives", func(t *testing.T) {
		c := dial(t, addr)
		c.send("GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + strings.Repeat(get, 10_000))
		c.expect("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\n/a")
		c.nc.CloseWrite()
		c.expectEnd()
	})
	t.Run("half here and refused: the connection closes", func(t *testing.T) {
		c := dial(t, addr)
		c.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel")
		c.expect("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\n/a")
		c.nc.CloseWrite()
		c.expectEnd()
	})
}

func TestBodyAndAnswerAtTheSameTime(t *testing.T) {
	c := dial(t, listen(t, &Server{Handler: func(x *Exchange) {
		_ = x.Start(-1)
		_ = x.Flush()
		for {
			p, err := x.Body.Next()
			_, _ = x.Write(p)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Error(err)
				return
			}
			_ = x.Flush()
		}
		x.Trailer = x.Body.Trailer()
		_ = x.Finish()
	}}))
	c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	c.expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
	for range 3 {
		c.send("5\r\nhello\r\n")
		c.expect("5\r\nhello\r\n")
	}
	c.send("0\r\nX: y\r\n\r\n" + "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
	c.expect("0\r\nX: y\r\n\r\n" + "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
}

func TestInterruptEndsAWaitingRead(t *testing.T) {
	result := make(chan error, 1)
	c := dial(t, listen(t, &Server{Handler: func(x *Exchange) {
		waiting := make(chan struct{})
		go func() {
			close(waiting)
			_, err := io.ReadAll(x.Body)
			result <- err
		}()
		<-waiting
		x.Body.Interrupt()
		if err := nettest.Within(t, result, "the interrupted read"); err != ErrInterrupted {
			t.Error(err)
		}
		hello(x)
	}}))
	c.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel")
	c.expect("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\n/a")
	c.nc.CloseWrite()
	c.expectEnd()
}

// An answer of unknown length cannot say ahead that the connection ends with it, and so
// a client sends on.
func TestARequestFollowsAnAnswerThatWasOverBeforeItsBody(t *testing.T) {
	for name, request := range map[string][2]string{
		"counted": {"Content-Length: 5\r\n\r\nhel", "lo"},
		"chunked": {"Transfer-Encoding: chunked\r\n\r\n5\r\nhel", "lo\r\n1\r\nx\r\n0\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			sent := make(chan struct{})
			c := dial(t, listen(t, &Server{Handler: func(x *Exchange) {
				if x.Body == nil {
					hello(x)
					return
				}
				result := make(chan error, 1)
				_, _ = io.ReadFull(x.Body, make([]byte, 3))
				go func() {
					_, err := x.Body.Read(make([]byte, 1))
					result <- err
				}()
				_ = x.Start(-1)
				x.Body.Interrupt()
				if err := nettest.Within(t, result, "the interrupted read"); err != ErrInterrupted {
					t.Error(err)
				}
				if err := x.Finish(); err != nil {
					t.Error(err)
				}
				nettest.Within(t, sent, "the next request")
			}}))
			c.send("POST / HTTP/1.1\r\nHost: a\r\n" + request[0])
			c.expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
			c.send(request[1] + "GET /b HTTP/1.1\r\nHost: a\r\n\r\n")
			close(sent)
			c.expect("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n/b")
		})
	}
}

func TestWatchSeesTheClientLeave(t *testing.T) {
	for name, leave := range map[string]func(c *client){
		"closed":      func(c *client) { _ = c.nc.Close() },
		"half-closed": func(c *client) { _ = c.nc.CloseWrite() },
		"reset":       func(c *client) { _ = c.nc.SetLinger(0); _ = c.nc.Close() },
	} {
		for _, pipelined := range []string{"", get} {
			t.Run(name, func(t *testing.T) {
				watching, gone, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
				c := dial(t, listen(t, &Server{Handler: func(x *Exchange) {
					if string(x.Req.Target) != "/watch" {
						hello(x)
						return
					}
					stop := x.Watch(func() { close(gone) })
					close(watching)
					nettest.Within(t, gone, "gone")
					stop()
					x.Abort()
					close(done)
				}}))
				c.send("GET /watch HTTP/1.1\r\nHost: a\r\n\r\n" + pipelined)
				nettest.Within(t, watching, "the watch")
				leave(c)
				nettest.Within(t, done, "the end of the handler")
			})
		}
	}
}

func TestWatchLeavesPipelinedBytesAlone(t *testing.T) {
	sent, watching := make(chan struct{}), make(chan struct{})
	c := dial(t, listen(t, &Server{Handler: func(x *Exchange) {
		if string(x.Req.Target) == "/watch" {
			stop := x.Watch(func() { t.Error("the client is still there") })
			close(watching)
			nettest.Within(t, sent, "the pipelined request")
			stop()
			stop()
		}
		_ = x.Respond(200, "text/plain", []byte("/a"))
	}}))
	c.send("GET /watch HTTP/1.1\r\nHost: a\r\n\r\n")
	nettest.Within(t, watching, "the watch")
	c.send(get)
	close(sent)
	c.expect(gotA + gotA)
	c.send(get)
	c.expect(gotA)
}

func TestDetachGivesEverythingBack(t *testing.T) {
	s := &Server{}
	s.Handler = func(x *Exchange) {
		x.Resp.Status = 101
		x.Resp.Set("Upgrade", "websocket")
		_ = x.Start(0)
		_ = x.Flush()
		nc, early := x.Detach()
		b := make([]byte, 8)
		n, err := nc.Read(b)
		if err != nil {
			t.Error(err)
		}
		_, _ = nc.Write(append(early, b[:n]...))
		_ = nc.Close()
	}
	c := dial(t, listen(t, s))
	c.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + "early")
	c.expect("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	c.send("late")
	c.expect("earlylate")
	c.expectEnd()
	if err := s.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestARefusedUpgradeClosesTheConnection(t *testing.T) {
	c := dial(t, listen(t, &Server{Handler: hello}))
	c.send("GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + get)
	c.expect("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\n/a")
	_ = c.nc.CloseWrite()
	if rest, err := io.ReadAll(c.br); len(rest) > 0 || err != nil {
		t.Errorf("what stood behind it was taken for a request: %q", rest)
	}
}
