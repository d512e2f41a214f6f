package sock

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"weir/proxy/nettest"
	"weir/proxy/poll"

	"golang.org/x/sys/unix"
)

// Who connected before the end is accepted still: the kernel resets the connections that
// a listener leaves behind.
func TestAListenerEndsBehindWhoHasConnected(t *testing.T) {
	p := newLoops(t, 1)
	tcp := nettest.Listen(t)
	const late = 5
	addr := tcp.Addr().String()
	busy, goOn, accepted := make(chan struct{}), make(chan struct{}), make(chan *Socket, 1+late)
	first := true
	l, err := Listen(p, tcp, func(s *Socket, _ func()) {
		if first {
			first = false
			close(busy)
			<-goOn
		}
		accepted <- s
	}, func(err error) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1 + late {
		nettest.Dial(t, addr)
		if i == 0 {
			<-busy
		}
	}
	if err := l.Close(); err != nil { // while the loop is busy
		t.Error(err)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("somebody could connect behind that")
	}
	close(goOn)
	for range 1 + late {
		var s *Socket
		select {
		case s = <-accepted:
		case <-time.After(5 * time.Second):
			t.Fatal("not everyone was accepted")
		}
		if _, err := s.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		_ = s.Close()
	}
}

// Nor does it wait for those who are silent in their TLS handshake, which leaves the
// loop of a task.
func TestAListenerEndsBesideTLSHandshakes(t *testing.T) {
	p := newLoops(t, 1)
	tcp := nettest.Listen(t)
	busy, goOn := make(chan struct{}), make(chan struct{})
	first := true
	var served sync.WaitGroup
	l, err := Listen(p, tcp, func(s *Socket, leave func()) {
		if first {
			first = false
			close(busy)
			<-goOn
			_ = s.Close()
			return
		}
		served.Add(1)
		p.NewTask(func(task *poll.Task) {
			defer served.Done()
			c := Server(s, &tls.Config{})
			defer c.Close()
			c.Bind(task)
			_, _ = c.Read(make([]byte, 1))
		}).Resume(leave)
	}, func(error) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	var silent []net.Conn
	for i := range 3 {
		c := nettest.Dial(t, tcp.Addr().String())
		silent = append(silent, c)
		if i == 0 {
			<-busy
		}
	}
	closed := make(chan error, 1)
	go func() { closed <- l.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it waits for those who are silent")
	}
	close(goOn)
	for _, c := range silent {
		_ = c.Close()
	}
	served.Wait()
}

func TestListenerAcceptsOnLoops(t *testing.T) {
	tcp := nettest.Listen(t)
	p := newLoops(t, 2)
	l, err := Listen(p, tcp, func(s *Socket, leave func()) {
		p.NewTask(func(task *poll.Task) {
			c := Wrap(s)
			c.Bind(task)
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}).Resume(leave)
	}, func(err error) bool { t.Error(err); return false })
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			c, err := net.Dial("tcp", tcp.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			buf := make([]byte, 5)
			for range 50 {
				_, _ = c.Write([]byte("hello"))
				if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "hello" {
					t.Errorf("echo = %q, %v", buf, err)
					return
				}
			}
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = c.Read(buf)
		})
	}
	all.Wait()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", tcp.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("a closed listener accepts")
	}
}

// Loops that cannot accept at the same time pause, and then accept.
func TestListenerPausesAfterFailures(t *testing.T) {
	tcp := nettest.Listen(t)
	accepted, failures := make(chan *Socket, 1), make(chan error, 2)
	l, err := Listen(newLoops(t, 2), tcp, func(s *Socket, _ func()) { accepted <- s }, func(err error) bool {
		failures <- err
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	none, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(none)
	listening := l.fd
	l.fd = none // nothing has come yet: no loop looks
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() { l.Ready(nil, poll.Readable) })
	}
	both.Wait()
	for range 2 {
		if err := <-failures; !errors.Is(err, syscall.EINVAL) {
			t.Error(err)
		}
	}
	l.mu.Lock()
	l.fd = listening
	if l.backoff != 4*minBackoff {
		t.Errorf("the next pause is %v", l.backoff)
	}
	l.mu.Unlock()
	nettest.Dial(t, tcp.Addr().String())
	_ = (<-accepted).Close()
}

// It accepts as soon as the kernel has room to tell of connections, and not only when it
// has some behind the pause.
func TestAListenerThatIsNotToldAsksAgain(t *testing.T) {
	tcp := nettest.Listen(t)
	p := newLoops(t, 1)
	accepted := make(chan *Socket, 1)
	l, err := Listen(p, tcp, func(s *Socket, _ func()) { accepted <- s }, func(error) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.arm(0)
	inTheWay := p.Add(l.fd, l.srcs[0], l) // epoll takes a descriptor once
	if err := inTheWay.Arm(poll.Writable); err != nil {
		t.Fatal(err)
	}
	l.arm(poll.Readable)
	inTheWay.Remove()
	nettest.Dial(t, tcp.Addr().String())
	select {
	case s := <-accepted:
		_ = s.Close()
	case <-time.After(5 * time.Second):
		t.Error("nobody is accepted any more")
	}
}
