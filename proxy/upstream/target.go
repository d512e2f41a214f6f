package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"weir/proxy/crash"
	"weir/proxy/poll"
	"weir/proxy/sock"
)

const (
	minBackoff = time.Second // of a target that cannot be connected to
	maxBackoff = 30 * time.Second
)

// target is one backend, of one Upstream or of those that took its place.
type target struct {
	users atomic.Int32 // Upstreams that are not closed

	url  string        // as configured
	host string        // for Host of health checks, and of requests without
	addr func() string // host:port to dial
	tls  *tls.Config   // nil: plain
	on   *poll.Poller  // what connections are put on; nil: goroutines wait for them

	panicked crash.Report

	shelves []shelf // of idle connections, one a loop

	unhealthy atomic.Bool               // by active checks
	downUntil atomic.Pointer[time.Time] // after connect failures; nil: not down

	mu    sync.Mutex
	fails int       // times in a row that it was put aside
	trial time.Time // from when on another exchange may try it, behind that
}

func newTarget(raw string, o *Options) (*target, error) {
	shelves := make([]shelf, 1)
	if o.Loops != nil {
		shelves = make([]shelf, o.Loops.Loops())
	}
	if raw == "demo:" {
		if o.Demo == nil {
			return nil, errors.New("upstream: demo: without an embedded backend")
		}
		return &target{url: raw, host: "demo", addr: o.Demo, on: o.Loops, panicked: o.Panic, shelves: shelves}, nil
	}
	p, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	if p.Hostname() == "" || p.Scheme != "http" && p.Scheme != "https" {
		return nil, fmt.Errorf("upstream: %q is neither demo: nor http://host[:port] nor https://host[:port]", raw)
	}
	t := &target{url: raw, host: p.Host, on: o.Loops, panicked: o.Panic, shelves: shelves}
	port := p.Port()
	if p.Scheme == "https" {
		t.tls = &tls.Config{}
		if o.TLS != nil {
			t.tls = o.TLS.Clone()
		}
		t.tls.ServerName = p.Hostname()
		t.tls.NextProtos = []string{"http/1.1"}
		if t.tls.RootCAs == nil {
			// A handshake would read them, once: that of a moment without descriptors
			// would have every one fail that follows.
			if t.tls.RootCAs, err = x509.SystemCertPool(); err != nil {
				return nil, fmt.Errorf("upstream: roots for %q: %w", raw, err)
			}
		}
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

// usable tells whether nothing is known against t. When its time aside is over, one
// exchange tries it after the other: were it all, each would wait for a target that is
// still gone.
func (t *target) usable(now time.Time) bool {
	switch {
	case t.unhealthy.Load():
		return false
	case t.downUntil.Load() == nil:
		return true
	case !t.unproven(now):
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return !now.Before(t.trial)
}

// unproven tells whether t was aside and has not been connected to since.
func (t *target) unproven(now time.Time) bool {
	until := t.downUntil.Load()
	return until != nil && !now.Before(*until)
}

// picked notes that an exchange goes to t. trial: it finds out whether t is back, and
// nobody else tries until that is known, limit at most, since it may end before.
func (t *target) picked(now time.Time, limit time.Duration) (trial bool) {
	if !t.unproven(now) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.trial) {
		return false
	}
	t.trial = now.Add(limit)
	return true
}

// givenUp notes that an exchange did not find out whether t can be connected to.
func (t *target) givenUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trial = time.Time{}
}

// connectFailed puts t aside for a while, longer each time; first: it worked
// before. Failures of what began before it was over are of the same time: as many
// exchanges as there were would else decide how long.
func (t *target) connectFailed(began, now time.Time) (first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if until := t.downUntil.Load(); until != nil && began.Before(*until) {
		return false
	}
	backoff := min(minBackoff<<min(t.fails, 10), maxBackoff)
	t.fails++
	t.trial = time.Time{}
	until := now.Add(backoff) // by the monotonic clock: a step of the other does not matter
	t.downUntil.Store(&until)
	return t.fails == 1
}

// connected forgets earlier failures.
func (t *target) connected() {
	if t.downUntil.Load() == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fails, t.trial = 0, time.Time{}
	t.downUntil.Store(nil)
}

// shelf is that of the loop that serves client.
func (t *target) shelf(client *sock.Conn) *shelf {
	if client == nil {
		return &t.shelves[0]
	}
	return &t.shelves[client.Loop()%len(t.shelves)]
}

// take returns an idle connection that is still open; nil: there is none. It is of
// the loop that serves client, or of one that has not needed it for a while: an
// exchange goes from processor to processor with that each time it waits, which costs
// less than to connect, but more than to have a connection. again: see conn.open.
func (t *target) take(now time.Time, again bool, client *sock.Conn) *conn {
	own := t.shelf(client)
	c := own.take(now, again)
	for i := 0; c == nil && i < len(t.shelves); i++ {
		if s := &t.shelves[i]; s != own && s.spare(now) {
			c = s.take(now, again)
		}
	}
	return c
}

// put keeps c for another exchange, or closes it.
func (t *target) put(c *conn) { t.shelf(c.nc).put(c, t.panicked) }

func (t *target) idleCount() (n int) {
	for i := range t.shelves {
		n += t.shelves[i].count()
	}
	return n
}

// inUse is the number of connections in use, detached ones included.
func (t *target) inUse() (n int64) {
	for i := range t.shelves {
		n += t.shelves[i].inUse.Load()
	}
	return n
}

// close is of one of its users.
func (t *target) close() {
	if t.users.Add(-1) > 0 {
		return
	}
	for i := range t.shelves {
		t.shelves[i].close()
	}
}
