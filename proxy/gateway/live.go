package gateway

import (
	"cmp"
	"strings"

	"weir/proxy/config"
	"weir/proxy/flow"
	"weir/proxy/relay"
	"weir/proxy/stream"
)

// liveRoute is what a route keeps across generations: its tunnels and counts.
type liveRoute struct {
	relay   relay.Route
	clients *clients // by address, for max_connections_per_ip of the route
}

// publish tells the tunnels of each route what it says from now on, and makes gen the
// running generation in one swap. g.reloading is held, once there is somebody to reload.
func (g *Gateway) publish(gen *generation) {
	routes := make(map[string]*liveRoute, len(gen.cfg.Routes))
	for i := range gen.cfg.Routes {
		cfg := &gen.cfg.Routes[i]
		live := g.routes[cfg.Name]
		if live == nil {
			live = &liveRoute{clients: newClients()}
			live.relay.Name = cfg.Name
			live.relay.Memory = flow.NewBudget(0, g.memory)
		}
		routes[cfg.Name] = live
		live.relay.Memory.SetMax(ownLimit(cfg.Own.MaxMemory, cfg.Limits.MaxMemory))
		live.relay.Store(&relay.Settings{View: gen.views[cfg.Name], Limits: cfg.Limits})
		gen.addRoute(cfg, live)
	}
	old := g.current.Load()
	for name, live := range g.routes {
		// It may come back while some are open, or begin: who has loaded old is counted yet.
		if routes[name] == nil && (live.clients.any() || old.views[name] != nil) {
			routes[name] = live
		}
	}
	g.memory.SetMax(gen.cfg.Limits.MaxMemory)
	g.routes = routes
	g.current.Store(gen) // behind all that: a tunnel may begin on any of its routes from here on
	for _, u := range gen.upstreams {
		u.part.Watch()
	}
}

func ownLimit(own bool, limit int64) int64 {
	if own {
		return limit
	}
	return 0
}

func (gen *generation) addRoute(cfg *config.Route, live *liveRoute) {
	rt := &route{
		Route: stream.Route{
			Name: cfg.Name, Upstream: gen.upstreams[cfg.Upstream].part, View: gen.views[cfg.Name], Limits: cfg.Limits,
		},
		policy: cfg.Policy,
		live:   live,
	}
	if !cfg.Own.MaxConnections {
		rt.Limits.MaxConnections = config.Unlimited
	}
	if !cfg.Own.MaxConnectionsPerIP {
		rt.Limits.MaxConnectionsPerIP = config.Unlimited
	}
	for _, o := range cfg.AllowedOrigins {
		rt.origins = append(rt.origins, strings.ToLower(o))
	}
	gen.router.add(cfg.Host, cmp.Or(cfg.Path, "/"), rt)
}
