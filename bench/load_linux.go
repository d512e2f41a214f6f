package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// load is one run of one cell: an upstream and clients, each a loop on its own
// thread, and the counts that they share.
type load struct {
	cell     cell
	toServer *ring // masked
	toClient *ring
	tunnels  []tunnel

	started  atomic.Bool  // traffic may flow
	waves    atomic.Int32 // how often every client begins: 1, or more where they are idle
	phase    atomic.Int32 // in which latencies are recorded
	stopping atomic.Bool  // nothing new is begun
	ending   atomic.Bool  // sockets may close

	open  atomic.Int64 // tunnels or connections that are ready
	count atomic.Int64 // messages or responses that came back whole

	up, down *loop
	flood    *loop // of pushes to stalled clients, apart from what is measured
	stalled  []net.Conn
	flooded  atomic.Int64 // bytes pushed to stalled clients
	server   *server
	clients  *clients
	wg       sync.WaitGroup // the loops

	failOnce sync.Once
	failed   chan struct{} // closed with failure set
	failure  error
}

// Phases of a run. What is measured beside something has two or three.
const (
	unmeasured = iota
	measured   // undisturbed
	filling    // stalled clients are being pushed to, and their buffers fill
	disturbed
	phases
)

// tunnel is the account of one connection, in messages.
type tunnel struct {
	sent atomic.Int64 // begun toward the client (push) or by it (echo, get)
	got  atomic.Int64 // received by the client, each in order and as it was sent
	_    [48]byte     // a cache line of its own
}

// startUpstream begins a run with its upstream, on a port of its own.
func startUpstream(c cell) (*load, error) {
	r := &load{cell: c, tunnels: make([]tunnel, c.tunnels), failed: make(chan struct{})}
	if c.kind != get && c.kind != sse {
		r.toServer, r.toClient = newRing(c.size, true), newRing(c.size, false)
	}
	var err error
	if r.up, err = newLoop(); err != nil {
		return nil, err
	}
	if r.down, err = newLoop(); err != nil {
		return nil, err
	}
	if r.server, err = newServer(r); err != nil {
		return nil, err
	}
	if r.flood, err = newLoop(); err != nil {
		return nil, err
	}
	r.clients = newClients(r)
	r.wg.Go(r.flood.run)
	r.wg.Go(r.up.run)
	r.wg.Go(r.down.run)
	return r, nil
}

// close ends the loops and every socket.
func (r *load) close() {
	r.ending.Store(true)
	for _, c := range r.stalled {
		c.Close()
	}
	r.flood.stop()
	r.down.stop()
	r.up.stop()
	r.wg.Wait()
}

// fail keeps the first cause.
func (r *load) fail(err error) {
	if r.ending.Load() {
		return
	}
	r.failOnce.Do(func() {
		r.failure = err
		close(r.failed)
	})
}

// connect opens every tunnel through the proxy at addr.
func (r *load) connect(ctx context.Context, addr string) error {
	to, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return err
	}
	if r.cell.kind == sse {
		r.clients.addr = to
		return nil
	}
	const atOnce = 32 // handshakes; a listener's backlog is not what is measured
	for i := range r.cell.tunnels {
		if err := r.clients.dial(to, i); err != nil {
			return err
		}
		// The loop answers the handshakes meanwhile.
		if err := r.until(ctx, func() bool { return int64(i)-r.open.Load() < atOnce }); err != nil {
			return fmt.Errorf("opening tunnel %d: %w", i, err)
		}
	}
	if err := r.until(ctx, func() bool { return r.open.Load() == int64(r.cell.tunnels) }); err != nil {
		return fmt.Errorf("%d of %d tunnels opened: %w", r.open.Load(), r.cell.tunnels, err)
	}
	return nil
}

// start lets the traffic flow.
func (r *load) start() {
	r.started.Store(true)
	r.waves.Add(1)
	r.down.wake()
	r.up.wake()
}

// drain begins nothing new and waits until all that was begun has come back,
// then holds the counts together: a proxy that loses, repeats or swaps
// messages fails here, or did before in the check of each message.
func (r *load) drain(ctx context.Context) error {
	r.phase.Store(unmeasured)
	r.stopping.Store(true)
	r.up.wake()
	r.down.wake()
	if err := r.until(ctx, r.settled); err != nil {
		for i := range r.tunnels {
			if t := &r.tunnels[i]; t.sent.Load() != t.got.Load() {
				return fmt.Errorf("tunnel %d: %d of %d messages arrived: %w", i, t.got.Load(), t.sent.Load(), err)
			}
		}
		return err
	}
	for i := range r.tunnels {
		if r.tunnels[i].got.Load() == 0 && r.cell.kind != sse {
			return fmt.Errorf("tunnel %d carried nothing while others did", i)
		}
	}
	return nil
}

func (r *load) settled() bool {
	if r.cell.kind == push && !r.server.quiet.Load() {
		return false // sent may still grow
	}
	for i := range r.tunnels {
		if t := &r.tunnels[i]; t.sent.Load() != t.got.Load() {
			return false
		}
	}
	return true
}

var errTimeout = errors.New("it took too long")

// until waits for a state that the loops bring about, 10 s at most.
func (r *load) until(ctx context.Context, state func() bool) error {
	deadline := time.Now().Add(10 * time.Second)
	for !state() {
		if err := r.sleep(ctx, 200*time.Microsecond); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return errTimeout
		}
	}
	return nil
}

// sleep waits unless the run fails or is cancelled meanwhile.
func (r *load) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-r.failed:
		return r.failure
	case <-ctx.Done():
		return ctx.Err()
	}
}
