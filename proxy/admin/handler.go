package admin

import (
	"errors"
	"maps"
	"net/http"
	"net/http/pprof"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes is how many requests for /metrics are gathered at once; more are
// answered 503.
const maxScrapes = 4

// endpoint is one line of the list at "/".
type endpoint struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	About  string `json:"about"`

	handle http.HandlerFunc
	open   bool // needs no token
}

// handler is the listener's http.Handler.
type handler struct {
	source Source
	guard  *guard
	list   []endpoint
	mux    *http.ServeMux
}

// NewHandler serves source, the metrics of reg, and profiles. With a token every
// endpoint but the probes wants it as "Authorization: Bearer"; without one the
// Host header must be localhost or an IP address. Refusals are problem+json.
func NewHandler(source Source, reg *prometheus.Registry, token string) http.Handler {
	h := &handler{source: source, guard: newGuard(token), mux: http.NewServeMux()}
	metrics := promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
	h.list = []endpoint{
		{"GET", "/", "this list", h.index, false},
		{"GET", "/livez", "200 while the process serves", h.live, true},
		{"GET", "/readyz", "200 while new work is accepted, else 503 with the reason", h.ready, true},
		{"GET", "/metrics", "Prometheus metrics", metrics.ServeHTTP, false},
		{"GET", "/connections", "open tunnels; ?route=NAME&limit=N", h.connections, false},
		{"DELETE", "/connections/{id}", "close a tunnel", h.disconnect, false},
		{"GET", "/policies", "policies of the running generation", h.policies, false},
		{"GET", "/upstreams", "upstreams and their targets", h.upstreams, false},
		{"POST", "/reload", "read the configuration anew", h.reload, false},
		{"GET", "/debug/pprof/", "profiles, for go tool pprof", pprof.Index, false},
		{"GET", "/debug/pprof/cmdline", "the command line", pprof.Cmdline, false},
		{"GET", "/debug/pprof/profile", "CPU profile; ?seconds=N, or 30", pprof.Profile, false},
		{"GET", "/debug/pprof/symbol", "names of program counters", pprof.Symbol, false},
		{"POST", "/debug/pprof/symbol", "names of program counters", pprof.Symbol, false},
		{"GET", "/debug/pprof/trace", "execution trace; ?seconds=N, or 1", pprof.Trace, false},
	}
	paths := map[string]map[string]endpoint{}
	for _, e := range h.list {
		if paths[e.Path] == nil {
			paths[e.Path] = map[string]endpoint{}
		}
		paths[e.Path][e.Method] = e
	}
	for path, methods := range paths {
		if path == "/" {
			path = "/{$}"
		}
		h.mux.Handle(path, h.serve(methods))
	}
	h.mux.Handle("/", h.serve(nil))
	return h
}

// ServeHTTP sets what every answer has in common.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	h.mux.ServeHTTP(w, r)
}

// serve is the handler of one path. Who may not ask learns nothing about it.
func (h *handler) serve(methods map[string]endpoint) http.Handler {
	allow := slices.Sorted(maps.Keys(methods))
	if slices.Contains(allow, http.MethodGet) {
		allow = append(allow, http.MethodHead)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet // net/http leaves out the body
		}
		e, ok := methods[method]
		if !(ok && e.open) && !h.guard.admit(w, r) {
			return
		}
		switch {
		case ok:
			e.handle(w, r)
		case methods == nil:
			refuse(w, http.StatusNotFound, "no such endpoint; GET / lists them")
		default:
			w.Header().Set("Allow", strings.Join(allow, ", "))
			refuse(w, http.StatusMethodNotAllowed, r.Method+" is not allowed here, only "+strings.Join(allow, ", "))
		}
	})
}

func (h *handler) index(w http.ResponseWriter, _ *http.Request) { show(w, h.list) }

func (h *handler) live(w http.ResponseWriter, _ *http.Request) {
	show(w, map[string]string{"status": "ok"})
}

func (h *handler) ready(w http.ResponseWriter, r *http.Request) {
	if err := h.source.Ready(); err != nil {
		refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	h.live(w, r)
}

func (h *handler) connections(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	limit := -1
	if s := query.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			refuse(w, http.StatusBadRequest, "limit is "+strconv.Quote(s)+", want a whole number from 1")
			return
		}
		limit = n
	}
	shown := []ConnectionInfo{} // [] in JSON, where nil would be null
	for _, c := range h.source.Connections() {
		if len(shown) == limit {
			break
		}
		if query.Has("route") && c.Route != query.Get("route") {
			continue
		}
		c.EventKeys = append([]string{}, c.EventKeys[:min(len(c.EventKeys), maxEventKeys)]...)
		shown = append(shown, c)
	}
	show(w, shown)
}

func (h *handler) disconnect(w http.ResponseWriter, r *http.Request) {
	if id := r.PathValue("id"); !h.source.CloseConnection(id) {
		refuse(w, http.StatusNotFound, "no connection has the id "+strconv.Quote(id))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *handler) policies(w http.ResponseWriter, _ *http.Request) {
	show(w, append([]PolicyInfo{}, h.source.Policies()...))
}

func (h *handler) upstreams(w http.ResponseWriter, _ *http.Request) {
	show(w, append([]UpstreamInfo{}, h.source.Upstreams()...))
}

func (h *handler) reload(w http.ResponseWriter, _ *http.Request) {
	changed, err := h.source.Reload()
	switch {
	case err == nil:
		show(w, reloaded{h.source.Generation(), changed})
	case errors.Is(err, ErrConflict):
		refuse(w, http.StatusConflict, "a restart is needed; the last configuration still runs", faultsOf(err)...)
	default:
		refuse(w, http.StatusUnprocessableEntity, "the configuration was refused; the last one still runs", faultsOf(err)...)
	}
}

// reloaded is the answer to a reload that did not fail.
type reloaded struct {
	Generation uint64 `json:"generation"` // in force
	Changed    bool   `json:"changed"`    // false: it was before
}
