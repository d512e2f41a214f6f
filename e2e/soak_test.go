//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	soakSeed  = flag.Int64("seed", 0, "seed of TestSoak; 0: two fixed ones and a random one")
	soakTime  = flag.Duration("soak", 0, "how long TestSoak goes on, with random seeds; 0: once for each seed")
	soakRound = flag.Duration("round", 15*time.Second, "how long TestSoak keeps one Weir busy")
)

// Everything at once, at random: what becomes of each message is accounted for.
// Even seeds have TLS on the client leg.
func TestSoak(t *testing.T) {
	seeds := []int64{1, 2, 1 + rand.Int64N(1<<40)}
	if *soakSeed != 0 {
		seeds = []int64{*soakSeed}
	}
	start := time.Now()
	for i := 0; i < len(seeds); i++ {
		seed := seeds[i]
		if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { soak(t, seed) }) {
			t.Fatalf("again: go test -tags e2e -count=1 -run '^TestSoak$' ./e2e -seed=%d -round=%v", seed, *soakRound)
		}
		if i == len(seeds)-1 && *soakSeed == 0 && time.Since(start) < *soakTime {
			seeds = append(seeds, 1+rand.Int64N(1<<40))
		}
	}
}

const (
	soakTunnels = 24 // at once
	soakHTTP    = 4
)

// chaos is one run of the soak.
type chaos struct {
	t      *testing.T
	seed   int64
	g      *gateway
	ups    []*soakUpstream
	policy soakPolicy
	server string        // lines of [server]
	tls    *tls.Config   // of clients; nil: plain TCP
	stop   chan struct{} // closed when everything is to end in order

	mu      sync.Mutex
	tunnels map[uint32]*soakTunnel
	wrongs  []string

	lastTunnel                   atomic.Uint32
	refused, asked, answered, ok atomic.Int64 // handshakes; HTTP requests, their heads, their whole answers
}

func (c *chaos) wrong(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.wrongs) < 20 {
		c.wrongs = append(c.wrongs, fmt.Sprintf(format, args...))
	}
}

func soak(t *testing.T, seed int64) {
	r := rand.New(rand.NewPCG(uint64(seed), 0))
	c := &chaos{t: t, seed: seed, stop: make(chan struct{}), tunnels: map[uint32]*soakTunnel{}}
	for range 2 {
		u := &soakUpstream{addr: freeAddr(t)}
		u.start(t, seed, c.noteUpstream)
		t.Cleanup(func() { u.kill() })
		c.ups = append(c.ups, u)
	}
	c.prepare(seed%2 == 0)
	c.g = start(t, c.settings(r))
	for range c.ups {
		eventually(t, "the upstreams to answer", c.answers)
	}
	requests := c.requests()
	goroutines, files := c.g.goroutines(), c.g.files()

	var all sync.WaitGroup
	for range soakTunnels {
		all.Go(c.tunnelAfterTunnel)
	}
	for i := range soakHTTP {
		all.Go(func() { c.requestAfterRequest(rand.New(rand.NewPCG(uint64(seed), uint64(1000+i)))) })
	}
	c.disturb(r)
	close(c.stop)
	all.Wait()
	c.settled(goroutines, files)
	for _, u := range c.ups {
		u.end()
	}
	c.verdict(requests)
	for _, w := range c.wrongs {
		t.Error(w)
	}
}

// tunnelAfterTunnel keeps one tunnel open until everything ends.
func (c *chaos) tunnelAfterTunnel() {
	for {
		select {
		case <-c.stop:
			return
		default:
		}
		c.tunnel(c.lastTunnel.Add(1))
	}
}

func (c *chaos) tunnel(id uint32) {
	r := rand.New(rand.NewPCG(uint64(c.seed), uint64(id)<<1))
	conn, err := c.dial()
	if err != nil {
		c.wrong("tunnel %d: %v", id, err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(soakPatience))
	fmt.Fprintf(conn, "GET /soak/%d HTTP/1.1\r\nHost: weir\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", id)
	br := bufio.NewReaderSize(conn, 16<<10)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		c.wrong("tunnel %d: handshake: %v", id, err)
		return
	}
	if resp.StatusCode != 101 {
		c.asked.Add(1)
		c.answered.Add(1)
		resp.Body.Close()
		if resp.StatusCode < 502 || resp.StatusCode > 504 {
			c.wrong("tunnel %d: handshake: %s", id, resp.Status)
		}
		c.refused.Add(1)
		return
	}
	_ = conn.SetDeadline(time.Time{})
	p := soakPeer{c: conn, br: br, seed: c.seed, tunnel: id, sends: toUpstream, stop: c.stop, note: func(h happening) {
		c.mu.Lock()
		defer c.mu.Unlock()
		t := c.of(id)
		t.client = append(t.client, h)
	}}
	p.run(r)
	c.mu.Lock()
	t := c.of(id)
	t.sent, t.done = p.sent, true
	c.mu.Unlock()
}

// of is the tunnel of this number. c.mu is held.
func (c *chaos) of(id uint32) *soakTunnel {
	t := c.tunnels[id]
	if t == nil {
		t = &soakTunnel{id: id}
		c.tunnels[id] = t
	}
	return t
}

func (c *chaos) noteUpstream(id uint32, h happening) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.of(id)
	t.upstream = append(t.upstream, h)
}

// requestAfterRequest asks for answers whose bytes are known.
func (c *chaos) requestAfterRequest(r *rand.Rand) {
	client := &http.Client{Timeout: soakPatience, Transport: &http.Transport{TLSClientConfig: c.tls}}
	defer client.CloseIdleConnections()
	for {
		select {
		case <-c.stop:
			return
		case <-time.After(time.Duration(r.IntN(20)) * time.Millisecond):
		}
		n := r.IntN(200_000)
		method, path, want := "GET", "/bytes?n="+strconv.Itoa(n), padding[:n]
		var body io.Reader
		switch r.IntN(4) {
		case 0:
			method, path, body = "POST", "/echo", bytes.NewReader(want)
			if r.IntN(2) == 0 {
				body = io.MultiReader(body) // of a length not known before
			}
		case 1:
			events := r.IntN(100)
			path, want = "/events?n="+strconv.Itoa(events), nil
			for id := 1; id <= events; id++ {
				want = fmt.Appendf(want, "id: %d\n\n", id)
			}
			want = append(want, "data: end\n\n"...)
		}
		ctx, leave := context.WithCancel(context.Background())
		req, err := http.NewRequestWithContext(ctx, method, c.url(path), body)
		if err != nil {
			leave()
			c.wrong("%v", err)
			return
		}
		c.asked.Add(1)
		resp, err := client.Do(req)
		if err != nil {
			leave()
			if method != "POST" { // whose answer may be cut off with the request
				c.wrong("%s %s: %v", method, path, err)
			}
			continue
		}
		c.answered.Add(1)
		var got []byte
		if r.IntN(8) == 0 { // goes in the middle
			got, _ = io.ReadAll(io.LimitReader(resp.Body, int64(r.IntN(20_000))))
			leave()
		}
		rest, err := io.ReadAll(resp.Body)
		got = append(got, rest...)
		resp.Body.Close()
		leave()
		switch {
		case resp.StatusCode >= 502 && resp.StatusCode <= 504:
		case resp.StatusCode != 200:
			c.wrong("%s %s: %s %.200q", method, path, resp.Status, got)
		case err == nil && !bytes.Equal(got, want):
			c.wrong("%s %s: %d bytes that end in order, want %d", method, path, len(got), len(want))
		case err != nil && !bytes.HasPrefix(want, got):
			c.wrong("%s %s: %d bytes that are others, then %v", method, path, len(got), err)
		case err == nil:
			c.ok.Add(1)
		}
	}
}
