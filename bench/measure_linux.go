package main

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"
)

// measure runs one cell on one peer, both started for it alone.
func measure(ctx context.Context, c cell, p *peer, length time.Duration) (s sample, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 4*length+time.Minute, errTimeout)
	defer cancel()
	r, err := startUpstream(c)
	if err != nil {
		return s, err
	}
	closed := false
	closeRun := func() {
		if !closed {
			closed = true
			r.close()
		}
	}
	defer closeRun()
	x, err := p.start(ctx, c, r.server.port)
	if err != nil {
		return s, err
	}
	defer func() {
		if err != nil {
			if log := x.log(); log != "" {
				err = fmt.Errorf("%w\n%s", err, log)
			}
		}
		closeRun() // first, so that the proxy has nothing left to drain
		x.stop()
	}()
	s = sample{cell: c.name, peer: p.name, ready: float64(x.ready.Microseconds()) / 1000}
	rest, err := resident(x.pids)
	if err != nil {
		return s, err
	}
	s.rest = float64(rest)
	if err := r.connect(ctx, x.addr); err != nil {
		return s, err
	}
	switch {
	case c.kind == idle:
		err = measureIdle(ctx, r, x, &s, length)
	case c.beside():
		err = measureBeside(ctx, r, x, &s, length)
	default:
		err = measureFlow(ctx, r, x, &s, length)
	}
	if err != nil {
		return s, err
	}
	if err := r.drain(ctx); err != nil {
		return s, err
	}
	closeRun() // the histograms are ours from here on
	h := &r.clients.hists
	s.before99 = micro(h[measured].quantile(0.99))
	s.filling99 = micro(h[filling].quantile(0.99))
	s.calm, s.worst = micro(h[measured].worst), micro(h[disturbed].worst)
	of := &h[measured]
	if c.beside() {
		of = &h[disturbed]
	}
	s.p50, s.p99 = micro(of.quantile(0.5)), micro(of.quantile(0.99))
	return s, nil
}

func micro(d time.Duration) float64 { return float64(d) / 1e3 }

// measureIdle sends one message through each tunnel, looks at the memory once
// it has settled, and then has each tunnel answer once more.
func measureIdle(ctx context.Context, r *load, x *proxy, s *sample, length time.Duration) error {
	if err := r.wave(ctx); err != nil {
		return err
	}
	if err := r.sleep(ctx, max(length, 500*time.Millisecond)); err != nil {
		return err
	}
	memory, err := resident(x.pids)
	s.memory = float64(memory)
	s.perTunnel = (s.memory - s.rest) / float64(r.cell.tunnels)
	if err != nil {
		return err
	}
	if err := r.wave(ctx); err != nil {
		return fmt.Errorf("after they were idle: %w", err)
	}
	return x.profile(ctx, r.cell.name, "heap")
}

// wave sends one message through each idle tunnel and awaits all answers.
func (r *load) wave(ctx context.Context) error {
	r.start()
	want := int64(r.cell.tunnels) * int64(r.waves.Load())
	if err := r.until(ctx, func() bool { return r.count.Load() == want }); err != nil {
		return fmt.Errorf("%d of %d messages came back: %w", r.count.Load(), want, err)
	}
	return nil
}

// measureFlow lets the traffic flow for the length of the measurement.
func measureFlow(ctx context.Context, r *load, x *proxy, s *sample, length time.Duration) error {
	if err := r.warmUp(ctx, length); err != nil {
		return err
	}
	r.phase.Store(measured)
	began, n, own := time.Now(), r.count.Load(), ownCPU()
	cpu, err := cpuTime(x.pids)
	if err != nil {
		return err
	}
	var profiler sync.WaitGroup
	defer profiler.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var profileErr error
	profiler.Go(func() { profileErr = x.profile(ctx, r.cell.name, cpuProfile(length)) })
	for r.more(began, length) {
		if err := r.sleep(ctx, min(length, 10*time.Millisecond)); err != nil {
			return err
		}
	}
	took, n, own := time.Since(began), r.count.Load()-n, ownCPU()-own
	after, err := cpuTime(x.pids)
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("nothing came through in %v", took)
	}
	s.rate = float64(n) / took.Seconds()
	s.cpu = float64((after - cpu).Microseconds()) / float64(n)
	s.generator = own.Seconds() / took.Seconds()
	memory, err := resident(x.pids)
	s.memory = float64(memory)
	if err != nil {
		return err
	}
	profiler.Wait()
	return profileErr
}

// warmUp starts the traffic and lets caches and pools fill.
func (r *load) warmUp(ctx context.Context, length time.Duration) error {
	r.start()
	return r.sleep(ctx, max(200*time.Millisecond, length/5))
}

// more is false when the time is over, or an sse run has all its samples.
func (r *load) more(began time.Time, length time.Duration) bool {
	if r.cell.kind == sse && r.count.Load() >= sseSamples {
		return false
	}
	return time.Since(began) < length
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
