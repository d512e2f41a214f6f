package demo

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"testing"
	"time"
)

// TestMain fails when a goroutine of this package or of its server outlives
// the tests.
func TestMain(m *testing.M) {
	code := m.Run()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if left := leftover(2 * time.Second); code == 0 && left != "" {
		fmt.Fprintln(os.Stderr, "goroutines left over:\n"+left)
		code = 1
	}
	os.Exit(code)
}

// leftover is the stack of one goroutine that is still there at the deadline.
func leftover(patience time.Duration) string {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		left := ""
		buf := make([]byte, 1<<20)
		for g := range bytes.SplitSeq(buf[:runtime.Stack(buf, true)], []byte("\n\n")) {
			ours := bytes.Contains(g, []byte("proxy/demo.")) || bytes.Contains(g, []byte("fasthttp"))
			if ours && !bytes.Contains(g, []byte("TestMain")) {
				left = string(g)
			}
		}
		if left == "" {
			return ""
		}
		select {
		case <-tick.C:
		case <-deadline:
			return left
		}
	}
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
			c, err := net.Dial("tcp", d.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
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
