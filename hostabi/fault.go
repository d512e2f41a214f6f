package hostabi

// FaultCode names anything Weir refuses or loses.
type FaultCode string

// The catalogue (ABI.md §7.1). Gap is not a fault but a notice: it stands where
// a run of messages was shed, and is asked for through the same error hook.
const (
	PayloadTooLarge     FaultCode = "payload_too_large"
	InboxFull           FaultCode = "inbox_full"
	PendingLimit        FaultCode = "pending_limit"
	RateLimited         FaultCode = "rate_limited"
	SlowConsumer        FaultCode = "slow_consumer"
	TooManyConnections  FaultCode = "too_many_connections"
	NotAdmitted         FaultCode = "not_admitted"
	NoRoute             FaultCode = "no_route"
	UpstreamUnavailable FaultCode = "upstream_unavailable"
	UpstreamTimeout     FaultCode = "upstream_timeout"
	UpstreamClosed      FaultCode = "upstream_closed"
	AckTimeout          FaultCode = "ack_timeout"
	SessionExpired      FaultCode = "session_expired"
	ProtocolError       FaultCode = "protocol_error"
	FramingError        FaultCode = "framing_error"
	PolicyFailed        FaultCode = "policy_failed"
	Draining            FaultCode = "draining"

	Gap FaultCode = "gap"
)

// Fault is one row of the catalogue.
type Fault struct {
	Code      FaultCode
	Title     string // a short sentence for people, the same for every occurrence
	Status    int    // HTTP status
	Close     uint16 // WebSocket close code when the fault ends a tunnel; 0 when it does not
	Retryable bool   // whether the same request can succeed later
}

// Catalogue is the one table that maps faults to HTTP statuses and close codes.
var Catalogue = []Fault{
	{PayloadTooLarge, "The payload is larger than allowed.", 413, 1009, false},
	{InboxFull, "Too many messages are waiting for the upstream.", 429, 0, true},
	{PendingLimit, "Too much is in flight.", 429, 0, true},
	{RateLimited, "Messages arrive faster than allowed.", 429, 1008, true},
	{SlowConsumer, "The peer reads too slowly.", 503, 1013, true},
	{TooManyConnections, "Too many connections.", 503, 1013, true},
	{NotAdmitted, "The request is not admitted.", 403, 1008, false},
	{NoRoute, "No route matches the request.", 404, 0, false},
	{UpstreamUnavailable, "The upstream cannot be reached.", 502, 1014, true},
	{UpstreamTimeout, "The upstream did not answer in time.", 504, 1014, true},
	{UpstreamClosed, "The upstream connection ended.", 502, 1012, true},
	{AckTimeout, "No acknowledgement arrived in time.", 504, 0, true},
	{SessionExpired, "The session can no longer be resumed.", 410, 4510, false},
	{ProtocolError, "The peer broke the protocol.", 400, 1002, false},
	{FramingError, "The stream broke.", 502, 1011, true},
	{PolicyFailed, "The policy failed.", 503, 1011, true},
	{Draining, "The server is shutting down.", 503, 1012, true},
}

// Lookup returns the catalogue's row of c; ok is false for an unknown code.
func Lookup(c FaultCode) (f Fault, ok bool) {
	for _, f := range Catalogue {
		if f.Code == c {
			return f, true
		}
	}
	return Fault{}, false
}
