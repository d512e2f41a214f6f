package http1

import (
	"context"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"weir/proxy/nettest"
	"weir/proxy/sock"
)

// lasting is a connection that takes its time to be told that it is idle no more.
type lasting struct {
	net.Conn
	begun, over chan struct{}
	once        sync.Once
}

func (l *lasting) SetReadDeadline(t time.Time) error {
	if t.Equal(past) {
		l.once.Do(func() {
			close(l.begun)
			<-l.over
		})
	}
	return l.Conn.SetReadDeadline(t)
}

// To end thousands of idle connections takes long, and a loop may serve another that
// ends meanwhile.
func TestNobodyWaitsForADrain(t *testing.T) {
	s := &Server{Handler: hello}
	near, far := net.Pipe()
	defer near.Close()
	idle := &lasting{Conn: far, begun: make(chan struct{}), over: make(chan struct{})}
	var all sync.WaitGroup
	all.Go(func() { s.ServeConn(idle) })
	for !s.has(1) {
		runtime.Gosched()
	}
	all.Go(s.Dismiss)
	nettest.Within(t, idle.begun, "the end of an idle connection")
	looked := make(chan int, 1)
	go func() { looked <- s.Requests() }()
	nettest.Within(t, looked, "a look at the connections")
	close(idle.over)
	all.Wait()
}

// has tells whether n connections are served.
func (s *Server) has(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns) == n
}

// A request that has come is answered, though nobody has begun to read it: to close the
// connection would reset it.
func TestADrainEndsNoRequestThatHasCome(t *testing.T) {
	s := &Server{Handler: hello}
	l := nettest.Listen(t)
	far, near := dial(t, l.Addr().String()), nettest.Accept(t, l)
	c := newConn(s, sock.Wrap(near))
	c.state.Store(stateIdle)
	if !s.add(c) {
		t.Fatal("not added")
	}
	far.send(get)
	for !c.unread() {
		runtime.Gosched()
	}
	s.Drain()
	s.Dismiss()
	var serving sync.WaitGroup
	serving.Go(func() {
		defer s.remove(c)
		c.serve()
		_ = near.Close()
	})
	far.expect(lastA)
	far.expectEnd()
	serving.Wait()
}

// Who was told with its answer that the connection stays may have sent its next request
// before a drain began: that one is answered, as the last.
func TestADrainEndsNoRequestBehindAnAnswer(t *testing.T) {
	for name, buffered := range map[string]bool{"read with the one before": true, "not read yet": false} {
		t.Run(name, func(t *testing.T) {
			entered, leave := make(chan struct{}), make(chan struct{})
			s := &Server{Handler: func(x *Exchange) {
				if string(x.Req.Target) != "/slow" {
					hello(x)
					return
				}
				_ = x.Start(2)
				close(entered)
				nettest.Within(t, leave, "leave")
				_, _ = x.Write([]byte("ok"))
				_ = x.Finish()
			}}
			c := dial(t, listen(t, s))
			const slow = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
			if buffered {
				c.send(slow + get)
			} else {
				c.send(slow)
			}
			nettest.Within(t, entered, "the request")
			if !buffered {
				c.send(get)
			}
			s.Drain()
			close(leave)
			c.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + lastA)
			c.expectEnd()
			if err := s.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// What comes behind a drain is another server's.
func TestWhoComesLateIsServedByAnother(t *testing.T) {
	s := &Server{Handler: hello, Late: &Server{Handler: func(x *Exchange) { _ = x.Respond(503, "", nil) }}}
	addr := listen(t, s)
	s.Drain()
	c := dial(t, addr)
	c.send(get)
	c.expect("HTTP/1.1 503 ")
}

func TestDrain(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := &Server{Handler: func(x *Exchange) {
		if string(x.Req.Target) == "/slow" {
			entered <- struct{}{}
			nettest.Within(t, leave, "leave")
		}
		hello(x)
	}}
	addr := listen(t, s)
	idle, fresh, silent, busy := dial(t, addr), dial(t, addr), dial(t, addr), dial(t, addr)
	idle.send(get)
	idle.expect(gotA)
	busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	nettest.Within(t, entered, "the slow request")
	for !s.has(4) {
		runtime.Gosched()
	}
	s.Drain()
	idle.expectEnd()
	fresh.send(get) // it has not been told that it comes too late
	fresh.expect(lastA)
	fresh.expectEnd()
	s.Dismiss()
	silent.expectEnd()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Wait(ctx); err == nil {
		t.Error("Wait returned while a request is being handled")
	}
	close(leave)
	busy.expect("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nConnection: close\r\n\r\n/slow")
	busy.expectEnd()
	if err := s.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}
