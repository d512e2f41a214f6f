// Package admin is the operator's listener: probes, metrics, what is connected
// and loaded, reload and profiles, over plain net/http.
package admin

import "errors"

// Source is what the listener shows and moves. Its methods are called from any
// goroutine, and answer from state that is at hand.
type Source interface {
	// Ready returns nil while new work is accepted, else why not.
	Ready() error
	// Generation is the number of the published configuration, from 1.
	Generation() uint64
	// Connections are the open tunnels, the oldest first.
	Connections() []ConnectionInfo
	// CloseConnection begins to close a tunnel; false: there is none with id.
	CloseConnection(id string) bool
	// Policies are those of the published generation.
	Policies() []PolicyInfo
	// Upstreams are those of the published generation.
	Upstreams() []UpstreamInfo
	// Reload reads the configuration anew and returns when it is published, or
	// why it is not, whether or not who asked still waits; changed is false when
	// it says what is running already. An error may be a config.Errors, may join
	// several, and wraps ErrConflict when the files are sound but this process
	// cannot change to them.
	Reload() (changed bool, err error)
}

// ErrConflict marks a reload that needs a restart, such as another listen
// address: answered 409 where other refusals are 422.
var ErrConflict = errors.New("the running process cannot change to it")

// Flow is a number for each direction of a tunnel.
type Flow struct {
	ToUpstream int64 `json:"to_upstream"`
	ToClient   int64 `json:"to_client"`
}

// ConnectionInfo is one tunnel. Bytes are counted on the wire, frame headers
// included.
type ConnectionInfo struct {
	ID             string   `json:"id"`
	Route          string   `json:"route"`
	Policy         string   `json:"policy,omitempty"` // absent: the native defaults
	Peer           string   `json:"peer"`             // the client's address
	Upstream       string   `json:"upstream"`         // URL of the target
	State          string   `json:"state"`            // as in weir_connections
	LimitClass     string   `json:"limit_class,omitempty"`
	TraceID        string   `json:"trace_id,omitempty"`
	AgeSeconds     float64  `json:"age_seconds"`
	Messages       Flow     `json:"messages"` // forwarded
	Bytes          Flow     `json:"bytes"`    // forwarded
	Shed           Flow     `json:"shed"`     // messages
	QueuedMessages Flow     `json:"queued_messages"`
	QueuedBytes    Flow     `json:"queued_bytes"`
	EventKeys      []string `json:"event_keys"` // seen; the first maxEventKeys are shown
}

// maxEventKeys is how many event keys of one tunnel are shown.
const maxEventKeys = 32

// PolicyInfo is one policy of the published generation.
type PolicyInfo struct {
	Generation  uint64 `json:"generation"`
	Name        string `json:"name"`
	Module      string `json:"module"` // path of the file
	SHA256      string `json:"sha256"` // hex
	Engine      string `json:"engine"`
	Calls       int64  `json:"calls"`
	Faults      int64  `json:"faults"`
	Instances   int    `json:"instances"`
	Breaker     string `json:"breaker"` // closed, open or half-open
	CachedRules int    `json:"cached_rules"`
	MemoryBytes int64  `json:"memory_bytes"` // linear memory of all instances
}

// UpstreamInfo is one upstream of the published generation.
type UpstreamInfo struct {
	Name    string       `json:"name"`
	Targets []TargetInfo `json:"targets"`
}

// TargetInfo is one URL of an upstream.
type TargetInfo struct {
	URL     string `json:"url"`
	Healthy bool   `json:"healthy"`
	Idle    int    `json:"idle"`   // kept connections that nobody uses
	InUse   int    `json:"in_use"` // connections and tunnels
}
