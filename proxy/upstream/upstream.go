// Package upstream sends requests to a set of equal backends: balancing,
// health, keep-alive connections, and answers that stream.
package upstream

import (
	"cmp"
	"crypto/tls"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"weir/proxy/config"
	"weir/proxy/crash"
	"weir/proxy/faultlog"
	"weir/proxy/poll"
)

// Options are what an Upstream takes from its surroundings.
type Options struct {
	Demo func() string // host:port of the embedded backend, for "demo:"
	Log  *slog.Logger  // nil: discarded
	// Faults, if any, is told of each target that another is tried for.
	Faults *faultlog.Log
	TLS    *tls.Config // template for https targets; nil: the system's roots
	// Before, if any, is the Upstream whose place this one takes, with the same Options.
	// Targets that both have are the same ones, with their connections and with what is
	// known of their health. It is not closed yet.
	Before *Upstream
	// Loops are what connections are put on, so that tasks can wait for them;
	// nil: only goroutines send requests.
	Loops *poll.Poller
	// Spare, if any, is called where a connection cannot be made for want of what Weir
	// needs itself. It gives up what can be spared (see Upstream.Spare) and tells whether
	// there was any; then it is tried once more.
	Spare func() bool
	// Panic is told of panics beside exchanges: in request bodies and health
	// checks.
	Panic crash.Report
}

// Defaults of timeouts that the configuration leaves zero.
const (
	defaultConnectTimeout  = 5 * time.Second
	defaultResponseTimeout = 60 * time.Second
)

// Upstream is a set of targets.
type Upstream struct {
	name            string
	log             *slog.Logger
	faults          *faultlog.Log // nil: nobody is told
	targets         []*target
	healthPath      string
	least           bool // least_connections instead of round_robin
	connectTimeout  time.Duration
	responseTimeout time.Duration
	retries         int
	turn            atomic.Uint64 // of round_robin
	turnAgain       atomic.Uint64 // of requests that are tried again, which take nobody's turn
	spare           func() bool
	panicked        crash.Report

	closed    chan struct{} // announces the end to health checks
	closeOnce sync.Once
	watching  sync.Once
	checks    sync.WaitGroup // health checks, one goroutine per target; Close joins them
}

// New prepares the targets of cfg; nothing is dialled yet.
func New(cfg *config.Upstream, o Options) (*Upstream, error) {
	u := &Upstream{
		name:            cfg.Name,
		log:             cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		faults:          o.Faults,
		healthPath:      cfg.HealthPath,
		least:           cfg.Balance == "least_connections",
		connectTimeout:  cmp.Or(cfg.ConnectTimeout, defaultConnectTimeout),
		responseTimeout: cmp.Or(cfg.ResponseTimeout, defaultResponseTimeout),
		retries:         cfg.Retries,
		spare:           o.Spare,
		panicked:        o.Panic,
		closed:          make(chan struct{}),
	}
	known := u.known(o.Before)
	for _, raw := range cfg.URLs {
		t := known[raw]
		if delete(known, raw); t == nil {
			var err error
			if t, err = newTarget(raw, &o); err != nil {
				u.Close()
				return nil, err
			}
		}
		t.users.Add(1)
		u.targets = append(u.targets, t)
	}
	return u, nil
}

// Watch begins the health checks, if there are to be any, unless they have begun.
func (u *Upstream) Watch() {
	if u.healthPath == "" {
		return
	}
	u.watching.Do(func() {
		for _, t := range u.targets {
			u.checks.Go(func() { u.watchHealth(t) })
		}
	})
}

// known returns before's targets by their URLs. What is known by checks of another path
// is not of use.
func (u *Upstream) known(before *Upstream) map[string]*target {
	known := map[string]*target{}
	if before != nil && before.healthPath == u.healthPath {
		for _, t := range before.targets {
			known[t.url] = t
		}
	}
	return known
}

// Close ends health checks, and idle connections to targets that no other Upstream has;
// connections in use end with their exchange.
func (u *Upstream) Close() {
	u.closeOnce.Do(func() {
		close(u.closed)
		u.checks.Wait()
		for _, t := range u.targets {
			t.close()
		}
	})
}

// Spare closes idle connections, a few at a time, and tells whether there were any:
// their descriptors may be needed more elsewhere.
func (u *Upstream) Spare() (any bool) {
	for _, t := range u.targets {
		for i := range t.shelves {
			old := t.shelves[i].oldest(maxSpared)
			closeAll(old)
			any = any || len(old) > 0
		}
	}
	return any
}

// TargetStatus is one target as the admin listener shows it.
type TargetStatus struct {
	URL     string `json:"url"`
	Healthy bool   `json:"healthy"`
	Idle    int    `json:"idle"`
	InUse   int    `json:"in_use"`
}

// Status lists the targets in the order of the configuration.
func (u *Upstream) Status() []TargetStatus {
	now := time.Now()
	s := make([]TargetStatus, len(u.targets))
	for i, t := range u.targets {
		s[i] = TargetStatus{URL: t.url, Healthy: t.usable(now), Idle: t.idleCount(), InUse: int(t.inUse())}
	}
	return s
}

// pick chooses a target. Those that are down are chosen only when there is no
// other: better a try than a refusal; failed are those that the request has tried.
// Equals take turns among themselves: were it among all, the one behind a target that
// is down would have the turns of both. trial: the request finds out whether the target
// is back, which is no task for one that has met one that is not.
func (u *Upstream) pick(failed []*target) (best *target, trial bool) {
	if len(u.targets) == 1 {
		return u.targets[0], false
	}
	now := time.Now()
	rank := func(t *target) (rank int64) {
		if u.least {
			rank = t.inUse()
		}
		switch {
		case !t.usable(now):
			rank += 1 << 40
		case len(failed) > 0 && t.unproven(now):
			rank += 1 << 39
		}
		if slices.Contains(failed, t) {
			rank += 1 << 41
		}
		return rank
	}
	least, equals := int64(math.MaxInt64), uint64(0)
	for _, t := range u.targets {
		switch r := rank(t); {
		case r < least:
			best, least, equals = t, r, 1
		case r == least:
			equals++
		}
	}
	turns := &u.turn
	if len(failed) > 0 {
		turns = &u.turnAgain
	}
	if turn := (turns.Add(1) - 1) % equals; turn > 0 {
		for _, t := range u.targets { // some may be no equals any more
			if rank(t) != least {
				continue
			}
			if best = t; turn == 0 {
				break
			}
			turn--
		}
	}
	return best, len(failed) == 0 && best.picked(now, u.connectTimeout)
}
