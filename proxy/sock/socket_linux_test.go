package sock

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/proxy/fd"
	"weir/proxy/nettest"
	"weir/proxy/poll"
)

func newLoops(t testing.TB, n int) *poll.Poller {
	t.Helper()
	p, err := poll.New(n, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// looped returns a Socket that no task is bound to, and its peer.
func looped(t testing.TB, p *poll.Poller) (*Socket, *net.TCPConn) {
	t.Helper()
	l := nettest.Listen(t)
	s, err := Dialer{Loops: p, Timeout: patience, Waits: func(func()) {}}.Dial(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, nettest.Accept(t, l)
}

const patience = 10 * time.Second

// by runs f as a task on a loop and as a goroutine: a Socket is the same to both.
func by(t *testing.T, f func(t *testing.T, s *Socket, peer *net.TCPConn)) {
	t.Run("goroutine", func(t *testing.T) {
		s, peer := looped(t, newLoops(t, 1))
		f(t, s, peer)
	})
	t.Run("task", func(t *testing.T) {
		p := newLoops(t, 1)
		s, peer := looped(t, p)
		done := make(chan struct{})
		task := p.NewTask(func(task *poll.Task) {
			defer close(done)
			s.BindRead(task)
			s.BindWrite(task)
			f(t, s, peer)
		})
		s.src.Call(task.Resume)
		<-done
	})
}

func TestSocketReadsToTheEnd(t *testing.T) {
	by(t, func(t *testing.T, s *Socket, peer *net.TCPConn) {
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 3 {
				_, _ = peer.Write([]byte("hello"))
			}
			_ = peer.CloseWrite()
		})
		if got, err := io.ReadAll(s); string(got) != "hellohellohello" || err != nil {
			t.Errorf("ReadAll = %q, %v", got, err)
		}
		wg.Wait()
	})
}

func TestSocketWritesAll(t *testing.T) {
	by(t, func(t *testing.T, s *Socket, peer *net.TCPConn) {
		want := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // more than the kernel holds
		got := make(chan []byte, 1)
		go func() {
			b, _ := io.ReadAll(peer)
			got <- b
		}()
		if n, err := s.Write(want); n != len(want) || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
		_ = s.CloseWrite()
		if !bytes.Equal(<-got, want) {
			t.Error("what arrived is not what was written")
		}
	})
}

func TestSocketDeadlinesEndWaits(t *testing.T) {
	by(t, func(t *testing.T, s *Socket, peer *net.TCPConn) {
		_ = s.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		if n, err := s.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read = %d, %v", n, err)
		}
		if n, err := s.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("another Read = %d, %v", n, err)
		}
		_ = s.SetReadDeadline(time.Time{})
		_, _ = peer.Write([]byte("x"))
		if n, err := s.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("Read after the deadline was taken back = %d, %v", n, err)
		}
		_ = s.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		p := make([]byte, 32<<20)
		if n, err := s.Write(p); n == len(p) || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write to a peer that does not read = %d of %d, %v", n, len(p), err)
		}
	})
}

func TestSocketDeadlinesOfOthersEndWaits(t *testing.T) {
	by(t, func(t *testing.T, s *Socket, _ *net.TCPConn) {
		var wg sync.WaitGroup
		wg.Go(func() {
			for !s.in.waiting.Load() {
				<-time.After(time.Millisecond)
			}
			_ = s.SetReadDeadline(time.Unix(1, 0))
		})
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read: %v", err)
		}
		wg.Wait()
	})
}

func TestSocketCloseEndsWaits(t *testing.T) {
	by(t, func(t *testing.T, s *Socket, peer *net.TCPConn) {
		var wg sync.WaitGroup
		wg.Go(func() {
			for !s.in.waiting.Load() {
				<-time.After(time.Millisecond)
			}
			_ = s.Close()
		})
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read: %v", err)
		}
		wg.Wait()
		if _, err := s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write after Close: %v", err)
		}
		if err := s.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a second Close: %v", err)
		}
		if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the peer reads %v", err)
		}
	})
}

func TestSocketErrorsAreTheSystems(t *testing.T) {
	by(t, func(t *testing.T, s *Socket, peer *net.TCPConn) {
		_ = peer.SetLinger(0)
		_ = peer.Close()
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Read after a reset: %v", err)
		}
		if _, err := s.Write(make([]byte, 1)); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("Write after a reset: %v", err)
		}
	})
}

// A read that got less than it had room for need not be tried again, and what
// comes after is not missed for that.
func TestSocketReadEmptyIsDry(t *testing.T) {
	by(t, func(t *testing.T, s *Socket, peer *net.TCPConn) {
		c := fd.New(&s.raw, nil, nil)
		buf := make([]byte, 16)
		r := new(asker)
		r.Init(&s.raw, r)
		for range 100 {
			_, _ = peer.Write([]byte("question"))
			if n, err := c.Read(buf); n != 8 || err != nil {
				t.Fatalf("Read = %d, %v", n, err)
			}
			if written, err := r.askedBy(peer); written != 6 || r.n != 6 || err != nil {
				t.Fatalf("Ask = %d, %d, %v", written, r.n, err)
			}
		}
		if !s.raw.Dry() {
			t.Error("a socket that was read empty is not dry")
		}
	})
}

// A socket that has never waited is on no loop, and nobody is told what comes.
func TestASocketThatNeverWaitedIsNotDry(t *testing.T) {
	by(t, func(t *testing.T, s *Socket, peer *net.TCPConn) {
		c := fd.New(&s.raw, nil, nil)
		buf := make([]byte, 16)
		for range 2 {
			_, _ = peer.Write([]byte("here"))
			here(s)
			if n, err := c.Read(buf); n != 4 || err != nil {
				t.Fatalf("Read = %d, %v", n, err)
			}
		}
		_, _ = peer.Write([]byte("unasked"))
		here(s)
		if s.raw.Dry() {
			t.Error("a socket that has something to read is dry")
		}
	})
}

// here returns when s has something to read, and is not told of that.
func here(s *Socket) {
	for there := false; !there; {
		_ = s.raw.Control(func(fd uintptr) {
			n, _, _ := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
			there = n > 0
		})
	}
}

// asker is the owner of a Lookout.
type asker struct {
	fd.Lookout
	n int
}

func (a *asker) Fill() (err error) {
	a.n, err = a.Read(make([]byte, 16))
	return err
}

func (*asker) Drop() {}

func (*asker) BeforeWait() error { return nil }

// askedBy has peer echo what a asks.
func (a *asker) askedBy(peer *net.TCPConn) (written int, err error) {
	var wg sync.WaitGroup
	wg.Go(func() {
		var b [6]byte
		_, _ = io.ReadFull(peer, b[:])
		_, _ = peer.Write(b[:])
	})
	written, err = a.Ask([]byte("answer"))
	wg.Wait()
	return written, err
}

func TestSocketTellsOfAHangUp(t *testing.T) {
	for _, early := range []bool{false, true} {
		s, peer := looped(t, newLoops(t, 1))
		if early {
			_ = peer.Close()
		}
		gone := make(chan struct{})
		stop := s.onHangup(func() { close(gone) })
		if !early {
			_, _ = peer.Write([]byte("pipelined")) // is no hang-up
			_ = peer.Close()
		}
		<-gone
		stop()
	}
	s, peer := looped(t, newLoops(t, 1))
	stop := s.onHangup(func() { t.Error("called after stop") })
	stop()
	_ = peer.Close()
	if _, err := io.ReadAll(s); err != nil {
		t.Error(err)
	}
}

// A stream without end does not keep a loop from others.
func TestSocketsShareALoop(t *testing.T) {
	p := newLoops(t, 1)
	busy, source := looped(t, p)
	quiet, other := looped(t, p)
	var wg sync.WaitGroup
	wg.Go(func() {
		p := make([]byte, 64<<10)
		for {
			if _, err := source.Write(p); err != nil {
				return
			}
		}
	})
	wg.Go(func() {
		done := make(chan struct{})
		task := p.NewTask(func(task *poll.Task) {
			defer close(done)
			busy.BindRead(task)
			p := make([]byte, 16)
			for {
				if _, err := busy.Read(p); err != nil {
					return
				}
			}
		})
		busy.src.Call(task.Resume)
		<-done
	})
	answered := make(chan string, 1)
	task := p.NewTask(func(task *poll.Task) {
		quiet.BindRead(task)
		b := make([]byte, 4)
		n, _ := quiet.Read(b)
		answered <- string(b[:n])
	})
	quiet.src.Call(task.Resume)
	_, _ = other.Write([]byte("ping"))
	if got := <-answered; got != "ping" {
		t.Errorf("got %q", got)
	}
	_ = busy.Close()
	_ = source.Close()
	wg.Wait()
}

func TestSocketsCostNoAllocation(t *testing.T) {
	s, peer := looped(t, newLoops(t, 1))
	c := fd.New(&s.raw, nil, nil)
	out, in := make([]byte, 128), make([]byte, 256)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := c.Write(out); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(peer, in[:128]); err != nil {
			t.Fatal(err)
		}
		if _, err := peer.Write(in[:128]); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(in); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a write and a read", n)
	}
}
