package gateway

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/metrics"
	"weir/proxy/poll"
	"weir/proxy/sock"
	"weir/proxy/stream"

	"github.com/prometheus/client_golang/prometheus"
)

// accept takes connections until the gateway ends, or with why it cannot.
func (g *Gateway) accept() error {
	if g.loops != nil {
		return g.acceptOnLoops()
	}
	backoff := acceptBackoff
	for {
		c, err := g.listener.Accept()
		if err != nil {
			if g.stopping() || errors.Is(err, net.ErrClosed) {
				return nil
			}
			if !passing(err) {
				return err
			}
			g.notAccepted(err)
			select {
			case <-time.After(backoff):
			case <-g.stop:
				return nil
			}
			backoff = min(2*backoff, time.Second)
			continue
		}
		backoff = acceptBackoff
		go g.serveConn(c.(*net.TCPConn), nil)
	}
}

// acceptOnLoops has each connection served by a task.
func (g *Gateway) acceptOnLoops() error {
	failed := make(chan error, 1)
	l, err := sock.Listen(g.loops, g.listener.(*net.TCPListener), func(s *sock.Socket, leave func()) {
		g.loops.NewTask(func(t *poll.Task) { g.serveConn(s, t) }).Resume(leave)
	}, func(err error) (goOn bool) {
		if goOn = passing(err); goOn {
			g.notAccepted(err)
			return true
		}
		select {
		case failed <- err:
		default:
		}
		return false
	})
	if err != nil {
		return err
	}
	defer l.Close()
	select {
	case err := <-failed:
		return err
	case <-g.stop:
		return nil
	}
}

const acceptBackoff = 5 * time.Millisecond // after a failed accept, doubling

// notAccepted logs that no connection is accepted at the moment, in a few lines a second,
// and makes room for some where that is what lacks.
func (g *Gateway) notAccepted(err error) {
	if sock.Lack(err) != "" {
		g.spare()
	}
	const msg = "connections cannot be accepted"
	n, ok := g.faults.Allow(time.Now(), msg)
	if !ok {
		return
	}
	attrs := []any{"listen", g.Addr().String(), "error", err.Error(), "suppressed", n}
	if limit, ok := fileLimit(); ok && errors.Is(err, syscall.EMFILE) {
		attrs = append(attrs, "file_limit", limit, "remedy", "raise LimitNOFILE (ulimit -n) or lower max_connections")
	}
	g.log.Error(msg, attrs...)
}

// spare gives up idle connections to upstreams, and tells whether there were any.
func (g *Gateway) spare() (any bool) {
	for _, u := range g.current.Load().upstreams {
		any = u.part.Spare() || any
	}
	return any
}

// passing tells an error of one connection, or of the moment, from one of the
// listener. Linux reports what befell a connection before it was accepted, or
// that a rule forbids it, as the error of accept(2): of errors that a peer may
// have caused none may end the process.
func passing(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && !slices.Contains([]syscall.Errno{syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK}, errno)
}

func (g *Gateway) stopping() bool {
	select {
	case <-g.stop:
		return true
	default:
		return false
	}
}

// clientConn is a client's connection with what it counts as.
type clientConn struct {
	*sock.Conn
	g    *Gateway
	peer netip.Addr
	over *stream.Fault // not nil: it is above a connection limit, which it does not count in

	mu      sync.Mutex
	counted prometheus.Gauge // of weir_connections; nil: none, or its tunnel's
	ended   bool
}

// overrun is how many connections above a limit may wait at once to be told so;
// beyond, they are closed without a word.
const overrun = 64

// serveConn runs one connection until it ends or becomes a tunnel; t is the task
// that does, nil when it is a goroutine.
func (g *Gateway) serveConn(tcp sock.TCP, t *poll.Task) {
	gen := g.current.Load()
	c := &clientConn{g: g}
	if a, ok := tcp.RemoteAddr().(*net.TCPAddr); ok {
		c.peer = a.AddrPort().Addr().Unmap()
	}
	most, mostOf := g.maxConnections(gen.cfg.Limits.MaxConnections), gen.cfg.Limits.MaxConnectionsPerIP
	if within(gen.cfg.Server.TrustedProxies, c.peer) {
		mostOf = config.Unlimited
	}
	if total, of, ok := g.clients.admit(c.peer, most, mostOf); !ok {
		// It takes no place of anybody's: otherwise one address could fill
		// max_connections with what it is not allowed.
		if g.overrun.Add(1) > overrun {
			g.overrun.Add(-1)
			g.metrics.Fault(hostabi.TooManyConnections).Inc()
			_ = tcp.Close()
			return
		}
		c.over = tooMany(c.peer, "", total, of, most, mostOf)
	}
	if gen.tls != nil {
		c.Conn = sock.Server(tcp, gen.tls)
		c.OnHandshakeError(c.notSecure)
	} else {
		c.Conn = sock.Wrap(tcp)
	}
	c.Bind(t)
	c.count(g.metrics.Connections(metrics.StateHTTP))
	g.http.ServeConn(c)
}

func within(nets []netip.Prefix, ip netip.Addr) bool {
	ip = ip.WithZone("") // which no prefix has
	for _, n := range nets {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// loop is the number of the loop that serves c.
func (c *clientConn) loop() int {
	if c == nil {
		return 0
	}
	return c.Loop()
}

// Close implements net.Conn, and counts the connection as gone.
func (c *clientConn) Close() error {
	c.gone()
	return c.Conn.Close()
}

// Abort closes with a reset.
func (c *clientConn) Abort() error {
	c.gone()
	return c.Conn.Abort()
}

func (c *clientConn) gone() {
	c.count(nil)
	c.mu.Lock()
	first := !c.ended
	c.ended = true
	c.mu.Unlock()
	switch {
	case !first:
	case c.over != nil:
		c.g.overrun.Add(-1)
	default:
		c.g.clients.remove(c.peer)
	}
}

// count moves the connection to another state of weir_connections, unless it
// has ended.
func (c *clientConn) count(in prometheus.Gauge) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	if c.counted != nil {
		c.counted.Dec()
	}
	if c.counted = in; in != nil {
		in.Inc()
	}
}
