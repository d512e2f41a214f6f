package fd_test

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

	"weir/proxy/fd"
	"weir/proxy/nettest"
)

// pair returns both ends of a connection, the first with a Conn on it.
func pair(t testing.TB) (c *fd.Conn, near, far *net.TCPConn) {
	t.Helper()
	near, far = nettest.Pair(t)
	raw, err := near.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return fd.New(raw, nil, nil), near, far
}

func TestReadWaitsAndEnds(t *testing.T) {
	c, near, far := pair(t)
	buf := make([]byte, 16)

	_ = near.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	if n, err := c.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read with nothing there and a deadline: %d, %v", n, err)
	}
	_ = near.SetReadDeadline(time.Time{})

	var wg sync.WaitGroup
	wg.Go(func() { _, _ = far.Write([]byte("hello")); _ = far.CloseWrite() })
	if got, err := io.ReadAll(c); string(got) != "hello" || err != nil {
		t.Errorf("ReadAll = %q, %v", got, err)
	}
	wg.Wait()

	_ = near.Close()
	if _, err := c.Read(buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read after Close: %v", err)
	}
	if _, err := c.Write(buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
}

func TestPeekLeavesWhatItSees(t *testing.T) {
	c, near, far := pair(t)
	raw, err := near.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	// seen waits until Peek finds something else than that nothing is there.
	seen := func() (err error) {
		if waited := raw.Read(func(s uintptr) bool { err = fd.Peek(s); return err != syscall.EAGAIN }); waited != nil {
			t.Fatal(waited)
		}
		return err
	}
	_ = raw.Control(func(s uintptr) { err = fd.Peek(s) })
	if err != syscall.EAGAIN {
		t.Errorf("nothing: %v", err)
	}
	_, _ = far.Write([]byte("x"))
	b := make([]byte, 2)
	if first, again := seen(), seen(); first != nil || again != nil {
		t.Errorf("a byte: %v, %v", first, again)
	} else if n, err := c.Read(b); n != 1 || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
	_ = far.CloseWrite()
	if err := seen(); err != io.EOF {
		t.Errorf("the end: %v", err)
	}
}

func TestWriteWaitsUntilAllIsTaken(t *testing.T) {
	c, _, far := pair(t)
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // more than the kernel holds
	var got []byte
	var wg sync.WaitGroup
	wg.Go(func() { got, _ = io.ReadAll(io.LimitReader(far, int64(len(want)))) })
	if n, err := c.Write(want); n != len(want) || err != nil {
		t.Errorf("Write = %d, %v", n, err)
	}
	wg.Wait()
	if !bytes.Equal(got, want) {
		t.Error("what arrived is not what was written")
	}
}

func TestWriteSaysWhatWasTakenAtItsDeadline(t *testing.T) {
	c, near, far := pair(t)
	p := make([]byte, 32<<20)
	_ = near.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	n, err := c.Write(p)
	if n == 0 || n == len(p) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write to a peer that does not read: %d of %d, %v", n, len(p), err)
	}
	_ = near.Close()
	if got, _ := io.Copy(io.Discard, far); got != int64(n) {
		t.Errorf("%d bytes arrived, Write said %d", got, n)
	}
}

func TestErrorsAreTheSystems(t *testing.T) {
	c, _, far := pair(t)
	_ = far.SetLinger(0)
	_ = far.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Read after a reset: %v", err)
	}
	if _, err := c.Write(make([]byte, 1)); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Write after a reset: %v", err)
	}
}

func TestNothingIsAllocated(t *testing.T) {
	c, _, far := pair(t)
	out, in := make([]byte, 128), make([]byte, 128)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := c.Write(out); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(far, in); err != nil {
			t.Fatal(err)
		}
		if _, err := far.Write(in); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(in); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a write and a read", n)
	}
}
