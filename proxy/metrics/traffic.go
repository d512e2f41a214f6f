package metrics

import (
	"sync/atomic"

	"weir/hostabi"

	"github.com/prometheus/client_golang/prometheus"
)

// State of a client connection.
type State uint8

// States; a connection is in exactly one.
const (
	StateHTTP      State = iota // between accept and close, speaking HTTP
	StateHandshake              // WebSocket handshake under way
	StateOpen                   // tunnel open
	StateClosing                // tunnel in its close handshake
	numStates
)

// String returns the state as it stands in the label.
func (s State) String() string {
	return [numStates]string{"http", "handshake", "open", "closing"}[s]
}

// Reason a message was dropped instead of delivered.
type Reason uint8

// Reasons.
const (
	DroppedShed        Reason = iota // droppable, and its peer is slow
	DroppedConflated                 // replaced by a newer one
	DroppedOversize                  // above a ceiling
	DroppedInboxFull                 // max_inbox waiting toward the upstream
	DroppedPending                   // max_pending_bytes, or no room in max_memory
	DroppedRateLimited               // message_rate
	DroppedInvalid                   // not UTF-8, or otherwise refused for its contents
	DroppedClosed                    // still queued when its tunnel ended
	numReasons
)

// String returns the reason as it stands in the label.
func (r Reason) String() string {
	return [numReasons]string{
		"shed", "conflated", "oversize", "inbox_full", "pending_limit", "rate_limited", "invalid", "closed",
	}[r]
}

// otherLabel is the value of any label outside its known ones.
const otherLabel = "other"

// directions are the label values in the order of hostabi.Direction.
var directions = [2]string{hostabi.ToUpstream: "to_upstream", hostabi.ToClient: "to_client"}

// statusClasses are the label values of weir_http_requests_total.
var statusClasses = [numStatusClasses]string{otherLabel, "1xx", "2xx", "3xx", "4xx", "5xx"}

const numStatusClasses = 6

// reading is a gauge whose value is asked for when it is gathered, so that what
// changes with every message is not counted twice.
type reading struct {
	f atomic.Pointer[func() float64]
}

func (r *reading) value() float64 {
	if f := r.f.Load(); f != nil {
		return (*f)()
	}
	return 0
}

// traffic registers what counts connections, messages and requests.
func (s *Set) traffic() {
	connections := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "weir_connections", Help: "Client connections by state.",
	}, []string{"state"})
	queued := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_queue_bytes", Help: "Bytes reserved for what waits in queues and for fragments being collected.",
	}, s.queueBytes.value)
	memory := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_memory_bytes", Help: "Bytes that count toward max_memory: queues, fragments being collected, frames whose rest is awaited, what was read of a flood, envelopes behind a message on its way.",
	}, s.memoryBytes.value)
	inflight := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_inflight", Help: "Messages waiting toward upstreams, which max_inbox bounds in each tunnel.",
	}, s.inflight.value)
	s.Registry.MustRegister(connections, queued, memory, inflight)
	for i := range s.connections {
		s.connections[i] = connections.WithLabelValues(State(i).String())
	}

	messages := s.counters("weir_messages_total", "WebSocket messages forwarded.", "direction")
	for d, name := range directions {
		s.messages[d] = messages.WithLabelValues(name)
	}
	dropped := s.counters("weir_messages_dropped_total", "WebSocket messages not delivered, by reason.", "reason")
	for i := range s.dropped {
		s.dropped[i] = dropped.WithLabelValues(Reason(i).String())
	}
	requests := s.counters("weir_http_requests_total", "HTTP requests answered, by class of status.", "code")
	for i, class := range statusClasses {
		s.requests[i] = requests.WithLabelValues(class)
	}
}

// Connections is the number of client connections in state.
func (s *Set) Connections(state State) prometheus.Gauge { return s.connections[state] }

// SetQueueBytes has f asked for weir_queue_bytes whenever metrics are gathered.
// It replaces the function before; without one the gauge is 0.
func (s *Set) SetQueueBytes(f func() float64) { s.queueBytes.f.Store(&f) }

// SetMemoryBytes does the same for weir_memory_bytes.
func (s *Set) SetMemoryBytes(f func() float64) { s.memoryBytes.f.Store(&f) }

// SetInflight does the same for weir_inflight.
func (s *Set) SetInflight(f func() float64) { s.inflight.f.Store(&f) }

// Messages counts messages forwarded in direction d. A pump that forwards
// several at once adds them at once.
func (s *Set) Messages(d hostabi.Direction) prometheus.Counter { return s.messages[d&1] }

// Dropped counts messages that were not delivered.
func (s *Set) Dropped(r Reason) prometheus.Counter { return s.dropped[r] }

// HTTPRequests counts requests answered with status.
func (s *Set) HTTPRequests(status int) prometheus.Counter {
	if status < 100 || status > 599 {
		status = 0
	}
	return s.requests[status/100]
}
