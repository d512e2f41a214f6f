package main

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Every kind of cell runs against the generator's own upstream, without a
// proxy between.
func TestEveryKindWithoutAProxy(t *testing.T) {
	for _, c := range []cell{
		{name: "one", kind: echo, size: 128, tunnels: 3, flight: 1},
		{name: "many", kind: echo, size: 16 << 10, tunnels: 5, flight: 64},
		{name: "push", kind: push, size: 1 << 10, tunnels: 4},
		{name: "idle", kind: idle, size: 128, tunnels: 70, flight: 1},
		{name: "get", kind: get, size: 16 << 10, tunnels: 4, flight: 1},
		{name: "sse", kind: sse, size: 128, tunnels: 1, flight: 1},
		{name: "stalled", kind: echo, size: 128, tunnels: 3, flight: 1, stalled: 5},
		{name: "routes", kind: push, size: 128, tunnels: 4, routes: 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := measure(t.Context(), c, &peer{name: "none"}, 300*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			if c.kind != idle && s.rate <= 0 || c.flight == 1 && c.kind != idle && s.p50 <= 0 {
				t.Errorf("%+v", s)
			}
			if c.beside() && (s.before99 <= 0 || s.p99 <= 0 || s.worst < s.p50) {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A proxy that changes, loses or swallows bytes must fail the run.
func TestABrokenProxyFails(t *testing.T) {
	change := func(b []byte) []byte {
		for i := range b {
			if b[i] == '}' {
				b[i] = ']'
			}
		}
		return b
	}
	lose := func(b []byte) []byte {
		if len(b) > 4000 {
			return b[:len(b)-132] // a frame of 128 bytes
		}
		return b
	}
	for name, f := range map[string]func([]byte) []byte{"changes": change, "loses": lose} {
		t.Run(name, func(t *testing.T) {
			c := cell{name: "push", kind: push, size: 128, tunnels: 2}
			r, err := startUpstream(c)
			if err != nil {
				t.Fatal(err)
			}
			defer r.close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := r.connect(ctx, tamper(t, r.server.port, f)); err != nil {
				t.Fatal(err)
			}
			r.start()
			if err := r.sleep(ctx, 5*time.Second); err == nil || !strings.Contains(err.Error(), "tunnel") {
				t.Errorf("the run goes on: %v", err)
			}
		})
	}
}

// tamper relays connections to the port and passes what comes back through f.
func tamper(t *testing.T, port int, f func([]byte) []byte) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { ln.Close() })
	relay := func(to, from net.Conn, f func([]byte) []byte) {
		defer to.Close()
		defer from.Close()
		b := make([]byte, 32<<10)
		for {
			n, err := from.Read(b)
			if err != nil {
				return
			}
			if _, err := to.Write(f(b[:n])); err != nil {
				return
			}
		}
	}
	wg.Go(func() {
		for {
			down, err := ln.Accept()
			if err != nil {
				return
			}
			up, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
			if err != nil {
				down.Close()
				continue
			}
			wg.Go(func() { relay(up, down, func(b []byte) []byte { return b }) })
			wg.Go(func() { relay(down, up, f) })
		}
	})
	return ln.Addr().String()
}
