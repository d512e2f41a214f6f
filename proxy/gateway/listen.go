package gateway

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"weir/hostabi"
	"weir/proxy/admin"
	"weir/proxy/config"
	"weir/proxy/http1"
	"weir/proxy/metrics"
	"weir/proxy/policy"
	"weir/proxy/sock"
	"weir/proxy/stream"
)

// listen opens the listeners; the addresses stay as they are until a restart.
func (g *Gateway) listen(cfg *config.Config) error {
	var err error
	if g.listener, err = listenOn(cfg.Server.Listen, listenConfig()); err != nil {
		return config.Errors{cfg.At(err.Error(), "server", "listen")}
	}
	if cfg.Admin.Listen == "" {
		return nil
	}
	l, err := listenOn(cfg.Admin.Listen, net.ListenConfig{})
	if err != nil {
		_ = g.listener.Close()
		return config.Errors{cfg.At(err.Error(), "admin", "listen")}
	}
	handler := &adminHandler{g: g}
	handler.use(cfg.Admin.Token)
	g.admin = &adminServer{Server: admin.NewServer(handler, g.log), handler: handler, addr: l.Addr()}
	g.admin.Start(sparing{l, g})
	return nil
}

// sparing accepts operators in the place of idle connections to upstreams, where there
// is no descriptor for both.
type sparing struct {
	net.Listener
	g *Gateway
}

// Accept implements net.Listener.
func (l sparing) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if sock.Lack(err) != "" && l.g.spare() {
		return l.Listener.Accept()
	}
	return c, err
}

// listenOn listens for TCP, and not for Multipath TCP (RFC 8684), which Go does by
// itself: its clients come by more addresses than the one that is counted, and its
// listeners do not know their zone.
func listenOn(address string, lc net.ListenConfig) (net.Listener, error) {
	lc.SetMultipathTCP(false)
	network := "tcp"
	if a, err := netip.ParseAddrPort(address); err == nil && a.Addr().Unmap().Is4() {
		network = "tcp4" // else 0.0.0.0 would be every address of IPv6, too
	}
	return lc.Listen(context.Background(), network, address)
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

// refuseMalformed answers a request that could not be read, under ids of its own.
func (g *Gateway) refuseMalformed(x *http1.Exchange, e *http1.Error) {
	id := stream.NewRequestID(new(http1.Request), false)
	g.metrics.Fault(hostabi.ProtocolError).Inc()
	g.faults.Warn(time.Now(), "bad request", "code", string(hostabi.ProtocolError), "peer", x.Conn().RemoteAddr().String(),
		"status", e.Status, "error", e.Error(), "trace_id", id.TraceID(), "request_id", id.String())
	contentType, body := malformed(e.Status, e.Error(), id)
	x.Resp.Set("X-Request-Id", id.String())
	x.Resp.AddDate(time.Now())
	_ = x.Respond(e.Status, contentType, body)
}

// malformed is what a client is told whose request could not be read.
func malformed(status int, why string, id *stream.RequestID) (contentType string, body []byte) {
	env := native.Envelope(hostabi.ProtocolError, hostabi.HTTP, hostabi.ToUpstream)
	return env.ContentType, env.Append(nil, &policy.Values{
		Code: hostabi.ProtocolError, Message: why, Status: status, Limit: -1, Actual: -1, TraceID: id.TraceID(),
	})
}

// native is what applies where no route's policy does.
var native = (*policy.Policy)(nil).View("")
