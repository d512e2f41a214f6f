package demo

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"weir/proxy/leak"
	"weir/proxy/nettest"
)

// TestMain fails when a goroutine of this package or of its server outlives
// the tests.
func TestMain(m *testing.M) {
	code := m.Run()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	leak.Exit(code, leak.Goroutines("proxy/demo."), leak.Goroutines("fasthttp"))
}

// start runs a backend for the length of a test and returns its address.
func start(t *testing.T) string {
	t.Helper()
	d, err := Start(slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error("close:", err)
		}
	})
	return d.Addr()
}

func TestCloseTwice(t *testing.T) {
	d, err := Start(slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCloseCutsWhatIsInProgress(t *testing.T) {
	for _, path := range []string{"/events", "/stream?bytes=1000000000000&rate=1", "/slow?ms=60000", "/stream?bytes=1000000000000"} {
		t.Run(path, func(t *testing.T) {
			d, err := Start(slog.New(slog.DiscardHandler), nil)
			if err != nil {
				t.Fatal(err)
			}
			c := nettest.Dial(t, d.Addr())
			fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: demo\r\n\r\n", path)
			if path != "/slow?ms=60000" { // which says nothing before it is over
				if _, err := io.ReadFull(c, make([]byte, 200)); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			all, _ := io.ReadAll(c)
			if bytes.HasSuffix(all, []byte("\r\n0\r\n\r\n")) {
				t.Error("a body that was cut looks like a whole one")
			}
		})
	}
}

// lacking is a listener for which there are no descriptors at first.
type lacking struct {
	net.Listener
	times atomic.Int32
}

func (l *lacking) Accept() (net.Conn, error) {
	if l.times.Add(-1) >= 0 {
		return nil, os.NewSyscallError("accept4", syscall.EMFILE)
	}
	return l.Listener.Accept()
}

func TestAcceptingGoesOnWhenThereAreDescriptorsAgain(t *testing.T) {
	l := &lacking{Listener: nettest.Listen(t)}
	l.times.Store(2)
	d := serveOn(l, slog.New(slog.DiscardHandler), nil)
	defer d.Close()
	client := http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	res, err := client.Get("http://" + d.Addr() + "/status/204")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusNoContent {
		t.Error(res.Status)
	}
}
