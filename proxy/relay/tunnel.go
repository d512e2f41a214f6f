// Package relay joins a client's WebSocket to its upstream's: frames are parsed
// in place, judged by rules and forwarded verbatim; a queue forms only toward a
// peer that is slow.
package relay

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/crash"
	"weir/proxy/faultlog"
	"weir/proxy/flow"
	"weir/proxy/metrics"
	"weir/proxy/policy"
	"weir/proxy/sock"
)

// Transport is one leg's connection after its handshake.
// sock.Conn is the one on real sockets.
type Transport interface {
	ReadTo(b sock.Buffer) (int, error)
	TryWrite(p []byte) (int, error)
	Pending() int
	Acked() (n uint64, unsent bool)
	Unread() int
	Drain(more func() bool) error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	CloseWrite() error
	Close() error
	Abort() error
}

// Settings are what a route says at one moment.
type Settings struct {
	View   *policy.View
	Limits config.Limits
}

// Route is a route as its tunnels see it across reloads: a message is judged by
// the settings of the moment.
type Route struct {
	Name    string
	Memory  *flow.Budget // what the queues of its tunnels reserve
	current atomic.Pointer[Settings]
}

// Load returns the settings of the moment.
func (r *Route) Load() *Settings { return r.current.Load() }

// Store changes them for every message to come.
func (r *Route) Store(s *Settings) { r.current.Store(s) }

// Leg is one end of a tunnel to be.
type Leg struct {
	Transport Transport
	Buffered  []byte // read behind the handshake already
	Addr      string // peer address, or upstream URL
}

// Options describe a tunnel to be.
type Options struct {
	ID         string
	Route      *Route
	Policy     string // name, for the listing
	Client     Leg
	Upstream   Leg
	Peer       net.Addr
	TraceID    string
	LimitClass string
	Metrics    *metrics.Set
	Log        *slog.Logger
	Faults     *faultlog.Log
	// Pressure is called when the memory budget is full, so that every tunnel that
	// shares it can be made to shed. It must not block.
	Pressure func()
	// Closed is called once, after both legs are closed.
	Closed func(*Tunnel)
}

// Tunnel is a client leg joined to an upstream leg.
type Tunnel struct {
	o      Options
	start  time.Time
	panics crash.Report // of t.panicked; made once, so that a turn costs no closure

	legs  [2]leg // by the direction of what is read from it
	pumps [2]pump

	limiter atomic.Pointer[rate.Limiter] // nil: no message_rate
	budget  policy.Budget                // of event keys not seen before

	// done is closed when the first cause is known; nothing but close frames
	// is sent afterwards.
	done    chan struct{}
	ending  sync.Once
	cause   Cause
	running atomic.Int32 // pumps that have not returned, and one until end is over
	writers sync.WaitGroup

	mu      sync.Mutex
	halves  int         // legs that sent a close frame
	first   *Cause      // known already while a peer has a moment left to say more
	leaving bool        // it is Weir's own, and the upstream was told
	guessed bool        // it is a loss, which the lost peer may yet give a reason for
	grace   *time.Timer // that moment
	watch   *time.Timer // pings and idleness
	due     int64       // when that fires, nanoseconds since start; its own, once it is armed
	stopped bool        // no timer is armed any more

	drained atomic.Bool // Drain was called

	lastMessage atomic.Int64 // nanoseconds since start
}

// leg is one connection and what goes out on it.
type leg struct {
	tr   Transport
	sink sink

	lastRead atomic.Int64  // nanoseconds since start
	pinged   atomic.Int64  // when an unanswered ping went out; 0: none
	silent   bool          // nothing more can be read from it; the pump's, and finish's behind it
	paused   atomic.Bool   // not read: what it sent waits for the other leg
	resumed  atomic.Int64  // when that was over last, nanoseconds since start
	token    atomic.Uint64 // what Weir's own pings carry; 0: none was sent
}

// New returns a tunnel, open and not running yet: Run has to follow. It may be
// ended before.
func New(o Options) *Tunnel {
	t := &Tunnel{o: o, start: time.Now(), done: make(chan struct{})}
	t.panics = t.panicked
	set := o.Route.Load()
	t.o.Client.Buffered, t.o.Upstream.Buffered = nil, nil
	for d, in := range [2]*Leg{hostabi.ToUpstream: &o.Client, hostabi.ToClient: &o.Upstream} {
		t.legs[d].tr = in.Transport
		t.pumps[d].init(t, hostabi.Direction(d), in.Buffered)
	}
	for d := range t.legs {
		t.legs[d].sink.init(t, hostabi.Direction(d), set)
	}
	t.setRate(&set.Limits)
	t.running.Store(3)
	o.Metrics.Connections(metrics.StateOpen).Inc()
	return t
}

// Run starts the tunnel: a pump per direction, each ended by its leg or by the
// tunnel's first cause. When both have, and there is a cause, both legs are
// closed.
func (t *Tunnel) Run() {
	t.armWatch()
	for d := range t.pumps {
		p := &t.pumps[d]
		if p.loop.tr != nil {
			p.serve()
		} else {
			go t.pump(p)
		}
	}
}

func (t *Tunnel) pump(p *pump) {
	t.guard(func() {
		if c := p.run(); c != nil {
			t.end(*c)
		}
	})
	t.guard(p.release)
	t.oneLess()
}

// oneLess is called by each pump when it has returned, and by end. The last has
// the tunnel finished.
func (t *Tunnel) oneLess() {
	if t.running.Add(-1) == 0 {
		go t.finish()
	}
}

// ID returns the tunnel's identity in /connections and logs.
func (t *Tunnel) ID() string { return t.o.ID }

// Route returns the route the tunnel belongs to.
func (t *Tunnel) Route() *Route { return t.o.Route }

// Shed gives up every droppable message that waits in either direction.
func (t *Tunnel) Shed() {
	for d := range t.legs {
		t.legs[d].sink.shed()
	}
}

// toward returns the leg that messages of direction d go out on.
func (t *Tunnel) toward(d hostabi.Direction) *leg { return &t.legs[d^1] }

// since returns nanoseconds since the tunnel's start.
func (t *Tunnel) since(now time.Time) int64 { return int64(now.Sub(t.start)) }

func (t *Tunnel) setRate(l *config.Limits) {
	if l.MessageRate == config.Unlimited {
		t.limiter.Store(nil)
		return
	}
	if old := t.limiter.Load(); old == nil || old.Limit() != rate.Limit(l.MessageRate) || old.Burst() != l.MessageBurst {
		t.limiter.Store(rate.NewLimiter(rate.Limit(l.MessageRate), max(l.MessageBurst, 1)))
	}
}
