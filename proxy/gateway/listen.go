package gateway

import (
	"context"
	"net"
	"net/netip"

	"weir/proxy/admin"
	"weir/proxy/config"
	"weir/proxy/http1"
	"weir/proxy/metrics"
	"weir/proxy/sock"
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
