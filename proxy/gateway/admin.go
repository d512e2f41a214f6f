package gateway

import (
	"net"
	"net/http"
	"sync/atomic"

	"weir/proxy/admin"
	"weir/proxy/metrics"
)

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
