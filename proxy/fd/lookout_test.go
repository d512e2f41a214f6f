package fd_test

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"weir/proxy/fd"
)

// reader is the owner of a Lookout, with a buffer that it holds or does not.
type reader struct {
	fd.Lookout
	mem   [16]byte
	n     int
	held  bool
	waits int
}

func (r *reader) Fill() error {
	if r.held {
		return errors.New("a buffer is held already")
	}
	r.held = true
	var err error
	r.n, err = r.Read(r.mem[:])
	return err
}

func (r *reader) got() string { return string(r.mem[:r.n]) }

func (r *reader) Drop() { r.held = false }

func (r *reader) BeforeWait() error {
	if r.waits++; r.held {
		return errors.New("a buffer is held while nothing is there")
	}
	return nil
}

func lookout(t testing.TB) (r *reader, near, far *net.TCPConn) {
	t.Helper()
	_, near, far = pair(t)
	raw, err := near.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	r = &reader{}
	r.Init(raw, r)
	return r, near, far
}

func TestAwaitHoldsNoBuffer(t *testing.T) {
	r, near, far := lookout(t)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = far.Write([]byte("hello")) })
	if err := r.Await(); err != nil || !r.held || r.got() != "hello" {
		t.Errorf("Await: %v, held %v, got %q", err, r.held, r.got())
	}
	wg.Wait()
	r.Drop()

	_ = near.SetReadDeadline(time.Now().Add(time.Millisecond))
	waits := r.waits
	if err := r.Await(); !errors.Is(err, os.ErrDeadlineExceeded) || r.held || r.waits == waits {
		t.Errorf("at its deadline: %v, held %v", err, r.held)
	}
	_ = near.SetReadDeadline(time.Time{})

	_ = far.CloseWrite()
	if err := r.Await(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	r.Drop()
	_ = far.SetLinger(0)
	_ = far.Close()
	if err := r.Await(); !errors.Is(err, syscall.ECONNRESET) && err != io.EOF {
		t.Errorf("after a reset: %v", err)
	}
	_ = near.Close()
	if err := r.Await(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestAsk(t *testing.T) {
	r, near, far := lookout(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 16)
		for {
			n, err := far.Read(buf)
			if err != nil {
				return
			}
			buf[0] = 'H'
			_, _ = far.Write(buf[:n])
		}
	})
	question := []byte("hello")
	ask := func() {
		r.Drop()
		if written, err := r.Ask(question); written != 5 || string(r.mem[:r.n]) != "Hello" || !r.held || err != nil {
			t.Fatalf("Ask = %d, %v, got %q", written, err, r.got())
		}
	}
	for range 1000 { // answers come before the wait and during it
		ask()
	}
	if n := testing.AllocsPerRun(100, ask); n != 0 {
		t.Errorf("%v allocations for an Ask", n)
	}
	_ = near.SetReadDeadline(time.Unix(1, 0))
	if written, err := r.Ask(question); written != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Ask after its deadline = %d, %v", written, err)
	}
	_ = near.CloseWrite()
	wg.Wait()
}

func TestAskSaysWhatTheKernelTook(t *testing.T) {
	r, near, _ := lookout(t)
	p := make([]byte, 32<<20)
	if written, err := r.Ask(p); written == 0 || written == len(p) || r.held || err != nil {
		t.Errorf("Ask of a peer that does not read = %d of %d, %v", written, len(p), err)
	}
	_ = near.Close()
	if _, err := r.Ask(p); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Ask after Close: %v", err)
	}
}
