// Package gateway is Weir itself: it listens, matches routes, admits, hands
// exchanges to stream and tunnels to relay, swaps generations, and drains.
package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"weir/proxy/config"
	"weir/proxy/demo"
	"weir/proxy/faultlog"
	"weir/proxy/flow"
	"weir/proxy/http1"
	"weir/proxy/metrics"
	"weir/proxy/poll"
	"weir/proxy/relay"
	"weir/proxy/stream"
)

// Options are what a gateway takes from its surroundings.
type Options struct {
	Log     *slog.Logger // nil: discarded
	Version string       // of the binary, for weir_build_info
	// Loops is how many loops connections live on; 0: as many as GOMAXPROCS, which
	// should then be doubled (poll.New).
	Loops int
	// CallTimeout and InitTimeout bound policies; 0: the documented 5 ms and
	// 500 ms. Tests under the race detector allow more.
	CallTimeout, InitTimeout time.Duration
}

// Gateway runs one configuration at a time.
type Gateway struct {
	options Options
	path    string
	files   config.Files // by which path is read
	log     *slog.Logger
	metrics *metrics.Set
	faults  *faultlog.Log
	panics  *faultlog.Log // apart, so that a flood of refusals hides none
	proxy   *stream.Proxy

	listener net.Listener
	admin    *adminServer // nil: none
	http     *http1.Server
	late     *http1.Server // serves connections that come while draining
	loops    *poll.Poller  // connections live on; nil: each has goroutines of its own
	demo     *demo.Demo

	current atomic.Pointer[generation]
	memory  *flow.Budget // what counts toward max_memory of the process
	clients *clients     // connections by address, those within the limits
	overrun atomic.Int64 // connections above a limit, open until they are told so

	mostClients int // that there are descriptors for

	life      context.Context         // of reloads
	end       context.CancelFunc      // of that: what is loaded is given up
	reloading sync.Mutex              // one reload at a time
	routes    map[string]*liveRoute   // by name, across generations; publish alone has them
	failing   atomic.Bool             // the last one failed
	watcher   atomic.Pointer[watcher] // nil: files are not followed yet

	newWatcher func() (*fsnotify.Watcher, error) // fsnotify's, or a test's

	mu       sync.Mutex
	tunnels  map[string]*relay.Tunnel
	draining atomic.Bool // set under mu

	pressure chan struct{} // asks for shedding everywhere
	stop     chan struct{} // closed when the gateway ends
	done     sync.WaitGroup
	lastID   atomic.Uint64
}

// New opens the listeners of cfg and builds its generation. Nothing is served
// before Run. The error is a config.Errors.
func New(ctx context.Context, cfg *config.Config, o Options) (*Gateway, error) {
	g := &Gateway{
		options:  o,
		path:     cfg.Path,
		files:    cfg.Files,
		log:      cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		metrics:  metrics.New(o.Version),
		memory:   flow.NewBudget(cfg.Limits.MaxMemory, nil),
		clients:  newClients(),
		routes:   map[string]*liveRoute{},
		tunnels:  map[string]*relay.Tunnel{},
		pressure: make(chan struct{}, 1),
		stop:     make(chan struct{}),

		mostClients: math.MaxInt,
		newWatcher:  fsnotify.NewWatcher,
	}
	if files, ok := fileLimit(); ok {
		own := ownFiles(g.howManyLoops())
		if few := fewFiles(files, own); few != "" {
			return nil, config.Errors{cfg.At(few, "limits", "max_connections")}
		}
		g.mostClients = mostClients(files, own)
	}
	g.life, g.end = context.WithCancel(context.WithoutCancel(ctx))
	g.faults, g.panics = faultlog.New(g.log), faultlog.New(g.log)
	g.proxy = &stream.Proxy{Log: g.log, Metrics: g.metrics, Allow: g.faults.Allow}
	g.http = g.newServer(g.serve)
	g.late = g.newServer(g.refuseLate)
	g.http.Late = g.late
	g.startLoops()
	g.metrics.SetQueueBytes(func() float64 { return float64(g.memory.Queued()) })
	g.metrics.SetMemoryBytes(func() float64 { return float64(g.memory.Used()) })
	g.metrics.SetInflight(g.inflight)
	gen, err := g.build(ctx, cfg, nil)
	if err != nil {
		g.closeRooms()
		return nil, err
	}
	if len(gen.policies) > 0 {
		debug.FreeOSMemory() // what loading them took, while there is nobody to disturb
	}
	g.publish(gen) // the admin listener answers at once
	if err := g.listen(cfg); err != nil {
		gen.close(g.panicked(metrics.InGateway))
		g.closeRooms()
		return nil, err
	}
	g.metrics.Reloaded(time.Now())
	return g, nil
}

// Addr is the address that clients connect to.
func (g *Gateway) Addr() net.Addr { return g.listener.Addr() }

// AdminAddr is the address of the admin listener; nil when there is none.
func (g *Gateway) AdminAddr() net.Addr {
	if g.admin == nil {
		return nil
	}
	return g.admin.addr
}

// Run serves until ctx ends, then drains: it returns nil when everything in
// flight has finished within drain_timeout, or was ended at its end.
func (g *Gateway) Run(ctx context.Context) error {
	g.warnOfFewFiles()
	g.done.Go(g.shedOnPressure)
	g.done.Go(func() { g.panicked(metrics.InGateway).Contain(func() { g.ebb(heldMemory, freeMemory) }) })
	g.done.Go(g.watch)
	accepting := make(chan error, 1)
	g.done.Go(func() { accepting <- g.accept() })
	g.log.Info("ready", "listen", g.Addr().String(), "admin", addrString(g.AdminAddr()), "generation", g.current.Load().number)
	var err error
	select {
	case <-ctx.Done():
		g.drain()
	case err = <-accepting:
		err = fmt.Errorf("accepting connections on %s: %w", g.Addr(), err)
	}
	g.close()
	return err
}

// close ends whatever is left, and joins every goroutine.
func (g *Gateway) close() {
	g.setDraining() // when accepting failed, nobody has: what begins from here on ends at once
	g.end()
	g.reloading.Lock() // what a reload under way publishes is closed below
	close(g.stop)
	g.reloading.Unlock()
	g.watcher.Load().close()
	_ = g.listener.Close()
	g.http.Close()
	g.endTunnels()
	g.done.Wait() // nobody is accepted any more
	g.waitLate()
	g.late.Close()
	ctx, cancel := context.WithTimeout(context.Background(), lastWait)
	defer cancel()
	if err := errors.Join(g.http.Wait(ctx), g.late.Wait(ctx)); err != nil {
		g.log.Warn("connections did not end", "error", err.Error())
	}
	g.waitTunnels(ctx)
	if g.admin != nil {
		_ = g.admin.Shutdown(ctx)
	}
	g.current.Load().close(g.panicked(metrics.InGateway))
	g.closeRooms()
	g.faults.Close()
	g.panics.Close()
}

// waitLate has those who came last told to go elsewhere.
func (g *Gateway) waitLate() {
	ctx, cancel := context.WithTimeout(context.Background(), firstRequest)
	defer cancel()
	_ = g.late.Wait(ctx)
}

// lastWait bounds what close waits for after everything was told to end.
const lastWait = 10 * time.Second

// closeRooms ends what tunnels and demonstrations run on.
func (g *Gateway) closeRooms() {
	if g.demo != nil {
		g.demo.Close()
	}
	if g.loops != nil {
		g.loops.Close()
	}
}

// howManyLoops is how many connections are to live on.
func (g *Gateway) howManyLoops() int { return cmp.Or(g.options.Loops, runtime.GOMAXPROCS(0)) }

// startLoops starts what connections live on.
func (g *Gateway) startLoops() {
	loops, err := poll.New(g.howManyLoops(), g.panicked(metrics.InLoop).Tell)
	if err != nil {
		if !errors.Is(err, errors.ErrUnsupported) {
			g.log.Warn("tunnels run in goroutines of their own", "error", err.Error())
		}
		return
	}
	g.loops = loops
}

func addrString(a net.Addr) string {
	if a == nil {
		return "none"
	}
	return a.String()
}
