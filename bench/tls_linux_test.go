package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Every cell over TLS works against crypto/tls, which speaks to the run's own
// upstream behind it, and so do records of every size.
func TestTLS(t *testing.T) {
	for _, c := range []cell{
		{name: "one", kind: echo, size: 128, tunnels: 3, flight: 1, tls: true},
		{name: "many", kind: echo, size: 16 << 10, tunnels: 2, flight: 8, tls: true},
		{name: "push", kind: push, size: 1 << 10, tunnels: 4, tls: true},
		{name: "get", kind: get, size: 16 << 10, tunnels: 4, flight: 1, tls: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := startUpstream(c)
			if err != nil {
				t.Fatal(err)
			}
			defer r.close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := r.connect(ctx, secure(t, r.server.port, &tls.Config{})); err != nil {
				t.Fatal(err)
			}
			r.start()
			if err := r.until(ctx, func() bool { return r.count.Load() > 500 }); err != nil {
				t.Fatal(err)
			}
			if err := r.drain(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTLSIsTheSameForAll(t *testing.T) {
	addr, err := net.ResolveTCPAddr("tcp4", secure(t, 1, &tls.Config{MaxVersion: tls.VersionTLS12}))
	if err != nil {
		t.Fatal(err)
	}
	if fd, _, err := connect(addr, true); err == nil {
		unix.Close(fd)
		t.Error("TLS 1.2 was taken")
	}
}

func TestChangedRecordsAreRefused(t *testing.T) {
	log := "CLIENT_TRAFFIC_SECRET_0 00 " + strings.Repeat("5a", 32) + "\n"
	out, err := newHalf(log, "CLIENT_TRAFFIC_SECRET_0")
	if err != nil {
		t.Fatal(err)
	}
	whole := out.seal(nil, []byte("some words"))
	for at := range whole {
		in, _ := newHalf(log, "CLIENT_TRAFFIC_SECRET_0")
		b := bytes.Clone(whole)
		b[at] ^= 1
		plain, err := in.aead.Open(nil, in.next(), b[recordHead:], b[:recordHead])
		if err == nil {
			t.Errorf("byte %d changed: %q", at, plain)
		}
	}
	if _, err := newHalf(log, "SERVER_TRAFFIC_SECRET_0"); err == nil {
		t.Error("a secret that is not there")
	}
}

// BenchmarkSeal is what TLS costs the generator for a full record.
func BenchmarkSeal(b *testing.B) {
	out, err := newHalf("CLIENT_TRAFFIC_SECRET_0 00 "+strings.Repeat("5a", 32), "CLIENT_TRAFFIC_SECRET_0")
	if err != nil {
		b.Fatal(err)
	}
	plain, dst := make([]byte, maxPlain), make([]byte, 0, 2*maxPlain)
	b.SetBytes(maxPlain)
	b.ReportAllocs()
	for b.Loop() {
		out.seal(dst, plain)
	}
}

// secure ends TLS and relays what is in it to the port.
func secure(t *testing.T, port int, config *tls.Config) string {
	t.Helper()
	pem := filepath.Join(t.TempDir(), "tls.pem")
	if err := writeCertificate(pem); err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(pem, pem)
	if err != nil {
		t.Fatal(err)
	}
	config.Certificates = []tls.Certificate{cert}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { ln.Close() })
	relay := func(to, from net.Conn) {
		defer to.Close()
		defer from.Close()
		_, _ = io.Copy(to, from) // its error is that the run is over
	}
	wg.Go(func() {
		for {
			down, err := ln.Accept()
			if err != nil {
				return
			}
			up, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
			if err != nil {
				_ = down.(*tls.Conn).Handshake() // so that its failure is what is seen
				down.Close()
				continue
			}
			wg.Go(func() { relay(up, down) })
			wg.Go(func() { relay(down, up) })
		}
	})
	return ln.Addr().String()
}
