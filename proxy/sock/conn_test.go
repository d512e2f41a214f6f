package sock

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"weir/proxy/nettest"
)

func TestReadToHoldsNothingWhileItWaits(t *testing.T) {
	over(t, func(t *testing.T, a, b leg) {
		l := &lender{size: 100, parked: make(chan struct{}, 1)}
		got := make(chan string)
		go func() {
			n, err := a.ReadTo(l)
			got <- string(l.buf[:n])
			if err != nil {
				t.Error(err)
			}
		}()
		<-l.parked
		if l.holds() {
			t.Error("the reader is parked and holds a buffer")
		}
		if n, err := b.TryWrite([]byte("hello")); n != 5 || err != nil {
			t.Fatal(n, err)
		}
		if s := <-got; s != "hello" {
			t.Errorf("read %q", s)
		}
	})
}

// What came before anybody read is found at once: nothing parks on it.
func TestReadToFindsWhatIsThere(t *testing.T) {
	over(t, func(t *testing.T, a, b leg) {
		for range 3 {
			if _, err := b.TryWrite(make([]byte, 300)); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := readAll(a, 900); len(got) != 900 || err != nil {
			t.Error(len(got), err)
		}
	})
}

func TestEndOfStream(t *testing.T) {
	over(t, func(t *testing.T, a, b leg) {
		if _, err := b.TryWrite([]byte("last words")); err != nil {
			t.Fatal(err)
		}
		if err := b.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := readAll(a, -1)
		if string(got) != "last words" || !errors.Is(err, io.EOF) {
			t.Errorf("read %q, %v; want the last words and io.EOF", got, err)
		}
	})
}

func TestReset(t *testing.T) {
	over(t, func(t *testing.T, a, b leg) {
		if err := b.Abort(); err != nil {
			t.Fatal(err)
		}
		if _, err := readAll(a, -1); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("a reset reads as %v", err)
		}
	})
}

func TestDeadlinesEndWaits(t *testing.T) {
	past := time.Unix(1, 0)
	over(t, func(t *testing.T, a, b leg) {
		l := &lender{size: 100, parked: make(chan struct{}, 1)}
		ended := make(chan error)
		go func() {
			_, err := a.ReadTo(l)
			ended <- err
		}()
		<-l.parked
		_ = a.SetReadDeadline(past)
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("ReadTo ended with %v", err)
		}
		if _, err := a.ReadTo(l); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("ReadTo after the deadline: %v", err)
		}
		full := make(chan struct{}, 1)
		go func() {
			ended <- a.Drain(func() bool {
				for {
					if n, err := a.TryWrite(make([]byte, 1<<20)); err != nil {
						t.Error(err)
						return true
					} else if n < 1<<20 {
						break
					}
				}
				select {
				case full <- struct{}{}:
				default:
				}
				return false
			})
		}()
		<-full
		_ = a.SetWriteDeadline(past)
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Drain ended with %v", err)
		}
		// Reads go on all the same.
		_ = a.SetReadDeadline(time.Time{})
		if _, err := b.TryWrite([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if got, err := readAll(a, 1); string(got) != "x" || err != nil {
			t.Error(got, err)
		}
	})
}

func TestCloseEndsWaits(t *testing.T) {
	over(t, func(t *testing.T, a, _ leg) {
		l := &lender{size: 100, parked: make(chan struct{}, 1)}
		ended := make(chan error)
		go func() {
			_, err := a.ReadTo(l)
			ended <- err
		}()
		<-l.parked
		_ = a.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("ReadTo ended with %v", err)
		}
	})
}

// A peer that does not read: TryWrite takes a part and says so, Drain finishes
// when the peer reads on, and the bytes are the same.
func TestPartialWrites(t *testing.T) {
	over(t, func(t *testing.T, a, b leg) {
		data := random(8 << 20)
		n, err := a.TryWrite(data)
		if err != nil || n == len(data) {
			t.Fatalf("%d of %d bytes were taken at once, %v", n, len(data), err)
		}
		again, err := a.TryWrite(data[n:])
		if err != nil || again > 1<<20 {
			t.Fatalf("a full socket took %d bytes more, %v", again, err)
		}
		n += again
		if p := a.Pending(); p > maxAhead || (secured(a) == nil) != (p == 0) {
			t.Errorf("%d bytes pending", p)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			// Portions smaller than what is pending are as good as all of it.
			if err := send(a, data[n:], 5000); err != nil {
				t.Error(err)
			}
		})
		got, err := readAll(b, len(data))
		wg.Wait()
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes arrived, equal %v, %v", len(got), bytes.Equal(got, data), err)
		}
		if a.Pending() != 0 {
			t.Errorf("%d bytes pending when all are written", a.Pending())
		}
		if s := secured(a); s != nil && s.out != nil {
			t.Error("memory for ciphertext is held while nothing waits")
		}
	})
}

func TestBothWaysAtOnce(t *testing.T) {
	over(t, func(t *testing.T, a, b leg) {
		x, y := random(6<<20), random(6<<20)
		var wg sync.WaitGroup
		for _, c := range []struct {
			from, to leg
			data     []byte
		}{{a, b, x}, {b, a, y}} {
			wg.Go(func() {
				if err := send(c.from, c.data, 70_000); err != nil {
					t.Error(err)
				}
				if err := c.from.CloseWrite(); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				got, err := readAll(c.to, -1)
				if !errors.Is(err, io.EOF) || !bytes.Equal(got, c.data) {
					t.Errorf("%d bytes arrived of %d, equal %v, %v", len(got), len(c.data), bytes.Equal(got, c.data), err)
				}
			})
		}
		wg.Wait()
	})
}

// Before Unblock a Conn is an ordinary net.Conn; what was read ahead by then
// is not lost.
func TestFromBlockingToUnblocked(t *testing.T) {
	x, y := nettest.Pair(t)
	ta, tb := tlsPair(t, 0x0304)
	for name, p := range map[string][2]*Conn{"tcp": {Wrap(x), Wrap(y)}, "tls": {ta, tb}} {
		t.Run(name, func(t *testing.T) {
			a, b := p[0], p[1]
			_ = a.SetDeadline(time.Now().Add(time.Minute))
			if _, err := b.Write([]byte("head, and more")); err != nil {
				t.Fatal(err)
			}
			head := make([]byte, 6)
			if _, err := io.ReadFull(a, head); err != nil {
				t.Fatal(err)
			}
			unblocked(t, a)
			if got, err := readAll(a, 8); string(got) != "and more" || err != nil {
				t.Errorf("%q %v", got, err)
			}
		})
	}
}

// deadlines notes the write deadline that a write has.
type deadlines struct {
	TCP
	now     time.Time
	written []time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.now = t
	return d.TCP.SetWriteDeadline(t)
}

func (d *deadlines) Write(p []byte) (int, error) {
	d.written = append(d.written, d.now)
	return d.TCP.Write(p)
}

// A peer that does not read keeps a close_notify no longer than closeNotifyWait.
func TestCloseNotifyIsBounded(t *testing.T) {
	_, c := tlsPair(t, tls.VersionTLS13)
	tcp := &deadlines{TCP: c.tls.tcp}
	c.tls.tcp = tcp
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if len(tcp.written) != 1 || tcp.written[0].IsZero() || time.Until(tcp.written[0]) > closeNotifyWait {
		t.Errorf("written by %v, want one write within %v", tcp.written, closeNotifyWait)
	}
}

func TestBrokenConn(t *testing.T) {
	x, _ := nettest.Pair(t)
	_ = x.Close()
	c := Wrap(x)
	if _, err := c.TryWrite([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("TryWrite on a closed connection: %v", err)
	}
	if _, err := c.ReadTo(&lender{size: 1}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("ReadTo on a closed connection: %v", err)
	}
	if err := c.Drain(func() bool { return true }); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Drain on a closed connection: %v", err)
	}
}

// A read and a write of a tunnel cost no allocation.
func TestRelayingAllocatesNothing(t *testing.T) {
	x, y := nettest.Pair(t)
	a, b := unblocked(t, Wrap(x)), unblocked(t, Wrap(y))
	l, p := &lender{size: 1000}, make([]byte, 100)
	l.Space()
	n := testing.AllocsPerRun(100, func() {
		if _, err := a.TryWrite(p); err != nil {
			t.Fatal(err)
		}
		if _, err := b.ReadTo(l); err != nil {
			t.Fatal(err)
		}
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(b)
	return b
}
