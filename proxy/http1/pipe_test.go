package http1

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// Over a connection that is no socket, with time that is not real.
func TestTimeoutsToTheSecond(t *testing.T) {
	set := Settings{HeadTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute, WriteTimeout: 40 * time.Second}
	run := func(name string, handler func(*Exchange), f func(t *testing.T, c net.Conn), want time.Duration) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{Handler: handler, Settings: func() Settings { return set }}
				c, server := net.Pipe()
				defer c.Close()
				start := time.Now()
				var took time.Duration
				done := make(chan struct{})
				go func() {
					s.ServeConn(server)
					took = time.Since(start)
					close(done)
				}()
				f(t, c)
				<-done
				if took != want {
					t.Errorf("ended after %v, want %v", took, want)
				}
			})
		})
	}
	answer := func(t *testing.T, c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, len(gotA))); err != nil {
			t.Error(err)
		}
	}
	run("no first byte", hello, func(*testing.T, net.Conn) {}, set.HeadTimeout)
	run("idle, counted from the last answer", hello, func(t *testing.T, c net.Conn) {
		for range 3 {
			_, _ = io.WriteString(c, get)
			answer(t, c)
			time.Sleep(4 * time.Minute)
		}
	}, 8*time.Minute+set.IdleTimeout)
	run("a head a byte a second", hello, func(t *testing.T, c net.Conn) {
		go io.Copy(io.Discard, c) // takes the 408; ends with the connection
		time.Sleep(3 * time.Second)
		for _, b := range []byte(get) {
			if _, err := c.Write([]byte{b}); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
	}, 3*time.Second+set.HeadTimeout)
	run("a body without progress, counted from its last byte", func(x *Exchange) {
		if _, err := io.ReadAll(x.Body); !isTimeout(err) {
			t.Error(err)
		}
		x.Abort()
	}, func(_ *testing.T, c net.Conn) {
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
		time.Sleep(2 * time.Minute)
		_, _ = io.WriteString(c, "x")
	}, 2*time.Minute+set.IdleTimeout)
	run("a client that takes nothing", hello, func(_ *testing.T, c net.Conn) {
		_, _ = io.WriteString(c, get)
	}, set.WriteTimeout+set.WriteTimeout/4)
}
