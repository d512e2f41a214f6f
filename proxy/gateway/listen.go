package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"weir/hostabi"
	"weir/proxy/admin"
	"weir/proxy/config"
	"weir/proxy/http1"
	"weir/proxy/metrics"
	"weir/proxy/policy"
	"weir/proxy/sock"

	"github.com/prometheus/client_golang/prometheus"
)

// listen opens the listeners; the addresses stay as they are until a restart.
func (g *Gateway) listen(cfg *config.Config) error {
	var err error
	lc := listenConfig()
	if g.listener, err = lc.Listen(context.Background(), "tcp", cfg.Server.Listen); err != nil {
		return config.Errors{cfg.At(err.Error(), "server", "listen")}
	}
	if cfg.Admin.Listen == "" {
		return nil
	}
	l, err := net.Listen("tcp", cfg.Admin.Listen)
	if err != nil {
		_ = g.listener.Close()
		return config.Errors{cfg.At(err.Error(), "admin", "listen")}
	}
	handler := &adminHandler{g: g}
	handler.use(cfg.Admin.Token)
	g.admin = &adminServer{Server: admin.NewServer(handler, g.log), handler: handler, addr: l.Addr()}
	g.admin.Start(l)
	return nil
}

// adminServer is the admin listener with what a reload may change.
type adminServer struct {
	*admin.Server
	handler *adminHandler
	addr    net.Addr
}

// adminHandler serves with the token of the running generation.
type adminHandler struct {
	g       *Gateway
	current atomic.Pointer[http.Handler]
}

func (h *adminHandler) use(token string) {
	n := admin.NewHandler(source{h.g}, h.g.metrics.Registry, token)
	h.current.Store(&n)
}

// ServeHTTP answers 500 for a panic; an answer that has begun ends there.
func (h *adminHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.g.panicked(metrics.InAdmin).Contain(func() { (*h.current.Load()).ServeHTTP(w, r) }) {
		http.Error(w, errPanicked.Error(), http.StatusInternalServerError)
	}
}

// newServer returns a connection loop whose limits are those of the moment.
func (g *Gateway) newServer(handler func(*http1.Exchange)) *http1.Server {
	return &http1.Server{
		Handler: handler,
		Refuse:  g.refuseMalformed,
		Settings: func() http1.Settings {
			l := &g.current.Load().cfg.Limits
			return http1.Settings{HeadTimeout: l.HandshakeTimeout, IdleTimeout: l.IdleTimeout, WriteTimeout: l.WriteTimeout}
		},
		Panic: g.panicked(metrics.InRequest).Tell,
	}
}

// accept takes connections until the listener is closed.
func (g *Gateway) accept() error {
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
			g.log.Error("accepting connections", "error", err.Error(), "retry_in_ms", backoff.Milliseconds())
			select {
			case <-time.After(backoff):
			case <-g.stop:
				return nil
			}
			backoff = min(2*backoff, time.Second)
			continue
		}
		backoff = acceptBackoff
		go g.serveConn(c.(*net.TCPConn))
	}
}

const acceptBackoff = 5 * time.Millisecond // after a failed accept, doubling

// passing tells an error of one connection, or of the moment, from one of the
// listener.
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.ENOBUFS, syscall.ENOMEM, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
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
	over string // not empty: it is above a connection limit, which it does not count in

	mu      sync.Mutex
	counted prometheus.Gauge // of weir_connections; nil: none, or its tunnel's
	ended   bool
}

// overrun is how many connections above a limit may wait at once to be told so;
// beyond, they are closed without a word.
const overrun = 64

// serveConn runs one connection until it ends or becomes a tunnel.
func (g *Gateway) serveConn(tcp *net.TCPConn) {
	gen := g.current.Load()
	c := &clientConn{g: g}
	if gen.tls != nil {
		c.Conn = sock.Server(tcp, gen.tls)
	} else {
		c.Conn = sock.Wrap(tcp)
	}
	if a, ok := tcp.RemoteAddr().(*net.TCPAddr); ok {
		c.peer = a.AddrPort().Addr().Unmap()
	}
	c.count(g.metrics.Connections(metrics.StateHTTP))
	most, mostOf := gen.cfg.Limits.MaxConnections, gen.cfg.Limits.MaxConnectionsPerIP
	if within(gen.cfg.Server.TrustedProxies, c.peer) {
		mostOf = config.Unlimited
	}
	if total, of, ok := g.clients.admit(c.peer, most, mostOf); !ok {
		// It takes no place of anybody's: otherwise one address could fill
		// max_connections with what it is not allowed.
		c.over = fmt.Sprintf("%d connections are open, max_connections is %d", total, most)
		if mostOf > 0 && of >= mostOf {
			c.over = fmt.Sprintf("%d connections are open from %s, max_connections_per_ip is %d", of, c.peer, mostOf)
		}
		if g.overrun.Add(1) > overrun {
			g.metrics.Fault(hostabi.TooManyConnections).Inc()
			_ = c.Close()
			return
		}
	}
	if g.isDraining() {
		g.late.ServeConn(c)
	} else {
		g.http.ServeConn(c)
	}
}

func within(nets []netip.Prefix, ip netip.Addr) bool {
	for _, n := range nets {
		if n.Contains(ip) {
			return true
		}
	}
	return false
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
	case c.over != "":
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

// refuseMalformed answers a request that could not be read.
func (g *Gateway) refuseMalformed(x *http1.Exchange, e *http1.Error) {
	g.metrics.Fault(hostabi.ProtocolError).Inc()
	g.faults.Warn(time.Now(), "bad request", "peer", x.Conn().RemoteAddr().String(), "status", e.Status, "error", e.Error())
	env := native.Envelope(hostabi.ProtocolError, hostabi.HTTP, hostabi.ToUpstream)
	body := env.Append(nil, &policy.Values{Code: hostabi.ProtocolError, Message: e.Error(), Status: e.Status, Limit: -1, Actual: -1})
	_ = x.Respond(e.Status, env.ContentType, body)
}

// native is what applies where no route's policy does.
var native = (*policy.Policy)(nil).View("")
