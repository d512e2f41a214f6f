package metrics

import "github.com/prometheus/client_golang/prometheus"

// Place is what a panic was contained in: what ended by it, or went without.
type Place uint8

// Places.
const (
	InRequest  Place = iota // an HTTP exchange, with its connection
	InTunnel                // both legs end, 1011
	InLoop                  // a socket's turn on a loop
	InUpstream              // a request body, or a health check
	InPolicy                // a call, which falls back, or the making of an instance
	InReload                // the running configuration stays
	InAdmin                 // a request to the admin listener
	InGateway               // a service of the process, which goes on
	InDemo                  // a connection of the embedded backend
	numPlaces
)

// String returns the place as it stands in labels and logs.
func (p Place) String() string {
	return [numPlaces]string{"request", "tunnel", "loop", "upstream", "policy", "reload", "admin", "gateway", "demo"}[p]
}

// mishaps registers what counts Weir's own bugs.
func (s *Set) mishaps() {
	v := s.counters("weir_panics_total", "Panics in Weir itself, each contained in one thing: bugs. The log has their stacks.", "in")
	for p := range s.panics {
		s.panics[p] = v.WithLabelValues(Place(p).String())
	}
}

// Panics counts panics that were contained in p.
func (s *Set) Panics(p Place) prometheus.Counter { return s.panics[p] }
