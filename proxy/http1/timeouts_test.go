package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"weir/proxy/nettest"
	"weir/proxy/poll"
)

func TestTimeouts(t *testing.T) {
	short := 50 * time.Millisecond
	set := func(s Settings) *Server {
		return &Server{Handler: hello, Settings: func() Settings { return s }}
	}
	t.Run("nothing", func(t *testing.T) {
		dial(t, listen(t, set(Settings{HeadTimeout: short}))).expectEnd()
	})
	t.Run("slow head", func(t *testing.T) {
		c := dial(t, listen(t, set(Settings{HeadTimeout: short, IdleTimeout: patience})))
		c.send(get)
		c.expect(gotA)
		c.send("GET / HTTP/1.1\r\nHost:")
		c.expect("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		c.expectEnd()
	})
	t.Run("idle", func(t *testing.T) {
		c := dial(t, listen(t, set(Settings{HeadTimeout: patience, IdleTimeout: short})))
		c.send(get)
		c.expect(gotA)
		c.expectEnd()
	})
	t.Run("slow body", func(t *testing.T) {
		result := make(chan error, 1)
		s := set(Settings{HeadTimeout: patience, IdleTimeout: short})
		s.Handler = func(x *Exchange) {
			_, err := io.ReadAll(x.Body)
			result <- err
			_ = x.Respond(408, "", nil)
		}
		c := dial(t, listen(t, s))
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell")
		if err := nettest.Within(t, result, "the end of the body"); !isTimeout(err) {
			t.Error(err)
		}
		c.expect("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	t.Run("stalled write", func(t *testing.T) {
		result := make(chan error, 1)
		s := set(Settings{WriteTimeout: short})
		s.Handler = func(x *Exchange) {
			_ = x.Start(-1)
			for {
				if _, err := x.Write(make([]byte, 32<<10)); err != nil {
					result <- err
					return
				}
			}
		}
		c := dial(t, listen(t, s))
		c.send(get)
		if err := nettest.Within(t, result, "the end of the write"); !isTimeout(err) {
			t.Error(err)
		}
	})
}

// What bounded the handshake does not bound what comes of it.
func TestADetachedConnectionHasNoDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := Settings{HeadTimeout: time.Second, IdleTimeout: time.Second, WriteTimeout: time.Second}
		s := &Server{Settings: func() Settings { return set }, Handler: func(x *Exchange) {
			x.Resp.Status = 101
			_ = x.Start(0)
			_ = x.Flush()
			nc, _ := x.Detach()
			defer nc.Close()
			_, err := io.CopyN(nc, nc, 1)
			if err != nil {
				t.Error(err)
			}
		}}
		c, server := net.Pipe()
		defer c.Close()
		go s.ServeConn(server)
		_, _ = io.WriteString(c, get)
		_, err := ReadHead(newReaderOf(c), 1<<10)
		time.Sleep(time.Hour)
		b := []byte("x")
		_, wrote := c.Write(b)
		_, read := io.ReadFull(c, b)
		if err := errors.Join(err, wrote, read); err != nil {
			t.Error(err)
		}
	})
}

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
	}, set.WriteTimeout)
	limits := []time.Duration{set.WriteTimeout, time.Hour}
	run("a client that takes nothing, where the answer before had longer", func(x *Exchange) {
		x.Limit(set.IdleTimeout, limits[len(limits)-1])
		limits = limits[:len(limits)-1]
		hello(x)
	}, func(t *testing.T, c net.Conn) {
		_, _ = io.WriteString(c, get)
		answer(t, c)
		_, _ = io.WriteString(c, get)
	}, set.WriteTimeout)
}

// A write that had to wait leaves no deadline behind for a later one.
func TestAStallThatIsOverLeavesNoDeadline(t *testing.T) {
	nc := &deadlines{}
	c := &conn{nc: nc, plain: true, writeLimit: time.Second}
	c.rw = stalling{c}
	for range 2 {
		if err := c.write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if len(nc.set) != 4 || nc.set[0].IsZero() || !nc.set[1].IsZero() || nc.set[2].IsZero() || !nc.set[3].IsZero() {
		t.Errorf("write deadlines set: %v, want one and none, twice", nc.set)
	}
}

// stalling is a plain socket's face whose every write has to wait.
type stalling struct{ c *conn }

func (s stalling) Read([]byte) (int, error)    { return 0, io.EOF }
func (s stalling) Write(p []byte) (int, error) { return len(p), s.c.armWrite() }

// deadlines notes the write deadlines that are set on it.
type deadlines struct {
	net.Conn
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

// A client that takes something every now and then is served to the end, however
// slowly its kernel, or TLS, lets writes go on; one that stops has write_timeout.
func TestSlowClientsAreNoStalls(t *testing.T) {
	for _, plain := range []bool{true, false} {
		for _, stops := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				nc := &slow{most: 900}
				if stops {
					nc.most = 300
				}
				c := &conn{nc: nc, plain: plain, writeLimit: 4 * time.Second, acks: nc}
				nc.c = c
				c.rw = nc
				start := time.Now()
				err := c.write(make([]byte, 900))
				if stops && (!isTimeout(err) || time.Since(start) != 34*time.Second) || !stops && (err != nil || nc.held != 900) {
					t.Errorf("plain %v, stops %v: %v after %v, %d bytes written", plain, stops, err, time.Since(start), nc.held)
				}
			})
		}
	}
}

// slow is a socket whose client takes 10 bytes a second, most of them at all, and
// whose writes go on when it has taken all that is there.
type slow struct {
	deadlines
	c     *conn
	began time.Time
	held  int // bytes written
	taken int
	most  int
}

func (s *slow) Acked() (uint64, bool) {
	if !s.began.IsZero() {
		s.taken = min(s.held, s.most, int(time.Since(s.began)/time.Second)*10)
	}
	return uint64(s.taken), s.taken < s.held //nolint:gosec // none is below 0
}

func (s *slow) Read([]byte) (int, error) { return 0, io.EOF }

func (s *slow) Write(p []byte) (n int, err error) {
	if s.began.IsZero() {
		s.began = time.Now()
	}
	for {
		if s.Acked(); s.taken == s.held {
			k := min(len(p)-n, 300) // what the kernel holds
			n, s.held = n+k, s.held+k
		}
		if n == len(p) {
			return n, nil
		}
		if s.c.plain {
			if err := s.c.armWrite(); err != nil {
				return n, err
			}
		}
		if due := s.set[len(s.set)-1]; !time.Now().Before(due) {
			return n, os.ErrDeadlineExceeded
		}
		time.Sleep(time.Second / 2)
	}
}

// A process that was stopped finds its deadlines over before it has read what came
// meanwhile: a wait that ends so late lasts a little longer.
func TestALateDeadlineIsPutOff(t *testing.T) {
	f := func(waited time.Duration, want error) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := &conn{limit: 10 * time.Second, since: time.Now()}
			time.Sleep(waited)
			if err := c.expired(); err != want {
				t.Errorf("after %v: %v, want %v", waited, err, want)
			}
			if time.Sleep(poll.Late); waited > 10*time.Second && c.expired() == nil {
				t.Errorf("after %v and %v it waits on", waited, poll.Late)
			}
		})
	}
	f(9*time.Second, nil)
	f(10*time.Second, os.ErrDeadlineExceeded)
	f(12*time.Second, nil)
}
