package http1

import (
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"weir/proxy/sock"
)

// taking is a connection whose kernel holds an answer for its client, who takes some of
// it each second for as long as most, and has all at the end of all.
type taking struct {
	net.Conn
	began     time.Time
	most, all time.Duration
	reset     atomic.Bool
}

func (k *taking) Acked() (uint64, bool) {
	taken := min(time.Since(k.began), k.most)
	return uint64(taken / time.Second), taken < k.all //nolint:gosec // none is below 0
}

func (k *taking) CloseWrite() error { return nil }

func (k *taking) Abort() error {
	k.reset.Store(true)
	return k.Close()
}

// An answer is the client's when its kernel has it: a connection that is closed before
// is reset by the next byte that comes, and the answer is lost.
func TestAConnectionLastsWhileItsAnswerIsTaken(t *testing.T) {
	const early = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
	const last = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	upload := func(c net.Conn) {
		for range 1000 {
			if _, err := c.Write([]byte{'x'}); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	}
	drain := func(s *Server) func(net.Conn) {
		return func(net.Conn) { time.Sleep(time.Second); s.Drain() }
	}
	half := func(c net.Conn) { time.Sleep(time.Second); _ = c.Close() } // the kernel's part goes on
	nothing := func(net.Conn) {}
	for name, f := range map[string]struct {
		request   string
		then      func(*Server) func(net.Conn)
		most, all time.Duration
		want      time.Duration
		reset     bool
	}{
		"an upload goes on":         {early, func(*Server) func(net.Conn) { return upload }, time.Hour, time.Minute, time.Minute, false},
		"the last answer":           {last, func(*Server) func(net.Conn) { return nothing }, time.Hour, time.Minute, time.Minute, false},
		"idle in a drain":           {get, drain, time.Hour, time.Minute, time.Minute + time.Second, false},
		"idle for too long":         {get, func(*Server) func(net.Conn) { return nothing }, time.Hour, time.Minute, time.Minute, false},
		"it has ended its side":     {get, func(*Server) func(net.Conn) { return half }, time.Hour, time.Minute, time.Minute + time.Second, false},
		"nothing is taken any more": {last, func(*Server) func(net.Conn) { return nothing }, 10 * time.Second, time.Minute, 50 * time.Second, true},
		"all was taken":             {last, func(*Server) func(net.Conn) { return nothing }, 0, 0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				set := Settings{HeadTimeout: 10 * time.Second, IdleTimeout: 20 * time.Second, WriteTimeout: 40 * time.Second}
				s := &Server{Handler: hello, Settings: func() Settings { return set }}
				far, near := net.Pipe()
				nc := &taking{Conn: near, began: time.Now(), most: f.most, all: f.all}
				var client sync.WaitGroup
				client.Go(func() {
					_, _ = io.WriteString(far, f.request)
					f.then(s)(far)
				})
				client.Go(func() { _, _ = io.Copy(io.Discard, far) })
				defer client.Wait()
				s.ServeConn(nc)
				if took := time.Since(nc.began); took != f.want || nc.reset.Load() != f.reset {
					t.Errorf("ended after %v, reset: %v; want %v, %v", took, nc.reset.Load(), f.want, f.reset)
				}
			})
		})
	}
}

// The kernel would keep megabytes for minutes for who takes nothing of them.
func TestAClientThatTakesNothingIsReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := Settings{HeadTimeout: 10 * time.Second, WriteTimeout: 40 * time.Second}
		s := &Server{Handler: hello, Settings: func() Settings { return set }}
		far, near := net.Pipe()
		defer far.Close()
		nc := &taking{Conn: near, began: time.Now(), all: time.Hour}
		go func() { _, _ = io.WriteString(far, get) }()
		s.ServeConn(nc)
		if took := time.Since(nc.began); took != set.WriteTimeout || !nc.reset.Load() {
			t.Errorf("ended after %v, reset: %v", took, nc.reset.Load())
		}
	})
}

// A cut answer is its client's as far as it goes, and counts until then.
func TestAConnectionLastsWhileACutAnswerIsTaken(t *testing.T) {
	for name, f := range map[string]struct {
		request   string
		most, all time.Duration
		want      time.Duration
		reset     bool
	}{
		"it is taken":               {get, time.Hour, time.Minute, time.Minute, false},
		"nothing is taken any more": {get, 10 * time.Second, time.Minute, 50 * time.Second, true},
		"all was taken":             {get, 0, 0, 0, false},
		"only a reset says it":      {"GET / HTTP/1.0\r\n\r\n", time.Hour, time.Minute, time.Minute, true},
		"that, and no more taken":   {"GET / HTTP/1.0\r\n\r\n", 10 * time.Second, time.Minute, 50 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				set := Settings{HeadTimeout: 10 * time.Second, WriteTimeout: 40 * time.Second}
				s := &Server{Settings: func() Settings { return set }, Handler: func(x *Exchange) {
					_ = x.Start(-1)
					_, _ = io.WriteString(x, "a part")
					x.Abort()
				}}
				far, near := net.Pipe()
				nc := &taking{Conn: near, began: time.Now(), most: f.most, all: f.all}
				var client sync.WaitGroup
				client.Go(func() {
					_, _ = io.WriteString(far, f.request)
					_, _ = io.Copy(io.Discard, far)
				})
				defer client.Wait()
				s.ServeConn(nc)
				if took := time.Since(nc.began); took != f.want || nc.reset.Load() != f.reset {
					t.Errorf("ended after %v, reset: %v; want %v, %v", took, nc.reset.Load(), f.want, f.reset)
				}
			})
		})
	}
}

// Without its end of TLS an answer that ends with its connection looks cut.
func TestTheEndOfTLSWaitsForASlowClient(t *testing.T) {
	h := httptest.NewTLSServer(nil) // for its certificate
	h.Close()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		s := &Server{
			Settings: func() Settings { return Settings{HeadTimeout: time.Minute, WriteTimeout: time.Minute} },
			Handler:  func(x *Exchange) { _ = x.Start(-1); _, _ = io.WriteString(x, "all"); _ = x.Finish() },
		}
		go s.ServeConn(sock.Server(pipeTCP{Conn: near}, &tls.Config{Certificates: h.TLS.Certificates}))
		w := &wire{Conn: far}
		c := tls.Client(w, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}) //nolint:gosec // 1.3 has the client read tickets
		_, _ = io.WriteString(c, "GET / HTTP/1.0\r\nHost: a\r\n\r\n")
		got := make([]byte, 1<<10)
		n, err := c.Read(got)
		if err != nil || !strings.HasSuffix(string(got[:n]), "all") {
			t.Fatalf("%q %v", got[:n], err)
		}
		time.Sleep(30 * time.Second)
		if n, err := c.Read(got); err != io.EOF || w.cut {
			t.Errorf("%q %v, without close_notify: %v", got[:n], err, w.cut)
		}
	})
}
