package upstream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"weir/proxy/crash"
	"weir/proxy/poll"
	"weir/proxy/sock"
)

const (
	maxIdle    = 256              // idle connections kept per target
	maxLook    = 16               // of them are looked at for one on the same loop
	idleExpiry = 50 * time.Second // below the 60 s after which common servers close

	minBackoff = time.Second // of a target that cannot be connected to
	maxBackoff = 30 * time.Second
)

// target is one backend.
type target struct {
	url  string        // as configured
	host string        // for Host of health checks
	addr func() string // host:port to dial
	tls  *tls.Config   // nil: plain
	on   *poll.Poller  // what connections are put on; nil: goroutines wait for them

	panicked crash.Report

	inUse     atomic.Int64 // connections, detached ones included
	unhealthy atomic.Bool  // by active checks
	downUntil atomic.Int64 // unix nanoseconds; after connect failures

	mu     sync.Mutex
	fails  int     // connect failures in a row
	idle   []*conn // the one used last is last
	expire *time.Timer
	closed bool
}

func newTarget(raw string, o *Options) (*target, error) {
	if raw == "demo:" {
		if o.Demo == nil {
			return nil, errors.New("upstream: demo: without an embedded backend")
		}
		return &target{url: raw, host: "demo", addr: o.Demo, on: o.Loops, panicked: o.Panic}, nil
	}
	p, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	if p.Hostname() == "" || p.Scheme != "http" && p.Scheme != "https" {
		return nil, fmt.Errorf("upstream: %q is neither demo: nor http://host[:port] nor https://host[:port]", raw)
	}
	t := &target{url: raw, host: p.Host, on: o.Loops, panicked: o.Panic}
	port := p.Port()
	if p.Scheme == "https" {
		t.tls = &tls.Config{}
		if o.TLS != nil {
			t.tls = o.TLS.Clone()
		}
		t.tls.ServerName = p.Hostname()
		t.tls.NextProtos = []string{"http/1.1"}
		if port == "" {
			port = "443"
		}
	} else if port == "" {
		port = "80"
	}
	addr := net.JoinHostPort(p.Hostname(), port)
	t.addr = func() string { return addr }
	return t, nil
}

// usable tells whether nothing is known against t.
func (t *target) usable(now time.Time) bool {
	return !t.unhealthy.Load() && t.downUntil.Load() <= now.UnixNano()
}

// connectFailed puts t aside for a while, longer each time; first: it worked
// before.
func (t *target) connectFailed(now time.Time) (first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	backoff := min(minBackoff<<min(t.fails, 10), maxBackoff)
	t.fails++
	t.downUntil.Store(now.Add(backoff).UnixNano())
	return t.fails == 1
}

// connected forgets earlier failures.
func (t *target) connected() {
	if t.downUntil.Load() == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fails = 0
	t.downUntil.Store(0)
}

// take returns an idle connection that is still open, the one used last; nil:
// there is none. One on the loop of near is preferred, so that an exchange stays
// on its loop. again: see conn.open.
func (t *target) take(now time.Time, again bool, near *sock.Conn) *conn {
	for {
		t.mu.Lock()
		n := len(t.idle)
		if n == 0 {
			t.mu.Unlock()
			return nil
		}
		at := n - 1
		for i := at; near != nil && i >= max(0, n-maxLook); i-- {
			if t.idle[i].nc.Beside(near) {
				at = i
				break
			}
		}
		c := t.idle[at]
		copy(t.idle[at:], t.idle[at+1:])
		t.idle[n-1] = nil
		t.idle = t.idle[:n-1]
		t.mu.Unlock()
		if c.open(now, again) {
			return c
		}
		_ = c.nc.Close()
	}
}

// put keeps c for another exchange, or closes it.
func (t *target) put(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.idle) >= maxIdle {
		_ = c.nc.Close()
		return
	}
	c.nc.Bind(nil)
	c.idleSince = time.Now()
	t.idle = append(t.idle, c)
	if t.expire == nil {
		t.expire = time.AfterFunc(idleExpiry, func() { t.panicked.Contain(t.reap) })
	}
}

// reap closes what was idle for too long; it runs again while there is more.
func (t *target) reap() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	now := time.Now()
	n := 0
	for n < len(t.idle) && now.Sub(t.idle[n].idleSince) >= idleExpiry {
		_ = t.idle[n].nc.Close()
		n++
	}
	t.idle = slices.Delete(t.idle, 0, n)
	if len(t.idle) == 0 {
		t.expire = nil
		return
	}
	t.expire.Reset(idleExpiry - now.Sub(t.idle[0].idleSince))
}

func (t *target) idleCount() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.idle)
}

func (t *target) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.expire != nil {
		t.expire.Stop()
	}
	for _, c := range t.idle {
		_ = c.nc.Close()
	}
	t.idle = nil
}
