package hostabi

// The envelopes that stand where a policy has no opinion (ABI.md §7.3).
const (
	// ProblemTemplate is RFC 9457 problem details, the default on HTTP.
	ProblemTemplate = `{"type":"about:blank","title":{{title}},"status":{{status}},"detail":{{message}},"code":{{code}},"retryable":{{retryable}}{{?retry_after_ms}}{{?limit}}{{?actual}}{{?trace_id}}}`
	// EventTemplate is the default on a WebSocket.
	EventTemplate = `{"type":"error","error":{"code":{{code}},"message":{{message}},"retryable":{{retryable}}{{?retry_after_ms}}{{?limit}}{{?actual}}{{?trace_id}}}}`

	ProblemType = "application/problem+json" // media type of ProblemTemplate
	JSONType    = "application/json"
)

// Slots are the names a template may use besides field:/pointer (ABI.md §7.2).
var Slots = []string{
	"code", "message", "title", "retryable", "retry_after_ms", "limit",
	"actual", "trace_id", "count", "key", "status",
}

// DefaultFault is the classification that stands where a policy has no opinion
// (ABI.md §6.7): the catalogue's for a code, else retryable for 429 and for
// 5xx but 501 and 505, which no repetition changes.
func DefaultFault(in *FaultInput) FaultOutput {
	if f, ok := Lookup(in.Code); ok {
		return FaultOutput{Retryable: f.Retryable}
	}
	s := in.Status
	return FaultOutput{Retryable: s == 429 || s >= 500 && s != 501 && s != 505}
}
