package hostabi

// The inputs and outputs of the hooks. Each encodes with AppendTo and decodes
// with Decode (messages_codec.go); the tags are ABI.md §6. Absent fields are
// not written; unknown tags are skipped.

// Direction of a message.
type Direction uint8

// Directions of a message through a tunnel.
const (
	ToUpstream Direction = 0 // sent by the client
	ToClient   Direction = 1 // sent by the upstream
)

// Transport tells the two kinds of exchange apart.
type Transport uint8

// Transports.
const (
	HTTP      Transport = 0
	WebSocket Transport = 1
)

// ConfigureInput is handed to weir_configure once per instance.
type ConfigureInput struct {
	Policy    string   // name of the [policy.NAME] table
	Config    []byte   // its config table as JSON, "{}" when absent
	HostMinor uint16   // the host's Minor
	Features  []string // names of optional host features; none in 1.0
}

// Shape is the answer of weir_configure: what the host reads natively.
type Shape struct {
	// EventKey are RFC 6901 pointers; their values joined with ':' are the
	// event key. None: every message has the empty key.
	EventKey []string
	// Keep are pointers of fields whose values envelopes use ({{field:/id}}).
	Keep []string
	// Prewarm are event keys to classify, in both directions, before the
	// generation is published.
	Prewarm []string
	// Constant are hooks that answer StatusNoOpinion to every input under this
	// configuration, so that the host need not ask.
	Constant []Hook
	// FramingHeaders and AdmitHeaders are lower-case names of request headers
	// that the hook wants to see; AdmitHeaders containing "*" asks for all.
	FramingHeaders []string
	AdmitHeaders   []string
	// ErrorTypeHeader is the response header that names an upstream's error type.
	ErrorTypeHeader string
}

// ClassifyInput asks for the rule of one kind of message.
type ClassifyInput struct {
	Route     string
	Direction Direction
	Key       []byte // the event key, at most MaxEventKey bytes; never the payload
}

// Class of a message toward a slow peer.
type Class uint8

// Classes.
const (
	Critical  Class = 0 // never shed
	Droppable Class = 1 // shed, oldest first, when the peer is slow
)

// Rule is what a policy says about an event key.
type Rule struct {
	Class Class
	// Unless is a pointer: a message that has this field is Critical after all.
	Unless string
	// Conflate is a pointer: a queued droppable message with the same key and
	// the same value of this field is replaced by the newer one.
	Conflate string
	// Priority orders shedding: lower is shed first, then oldest.
	Priority uint8
	// MaxSize is a ceiling in bytes of this kind; 0: only the route's applies.
	MaxSize uint64
}

// Header is a request header with a lower-case name.
type Header struct{ Name, Value string }

// AdmitInput describes a request before anything is dialled.
type AdmitInput struct {
	Route     string
	Transport Transport
	Method    string
	Host      string
	Path      string
	Query     string // raw, without '?'
	Peer      string // client address without port
	Headers   []Header
}

// AdmitOutput is the verdict.
type AdmitOutput struct {
	Deny    bool
	Code    FaultCode // when denied; default not_admitted
	Message string    // when denied; shown to the peer
	// LimitClass names a class the request belongs to; it is logged and shown
	// in /connections.
	LimitClass string
}

// Framing is how bytes are laid on a leg.
type Framing uint8

// Framings a leg can have.
const (
	Raw      Framing = 0
	FramedV1 Framing = 1 // u32 big-endian length and that many bytes, repeated
)

// String returns the framing's name as it stands in configuration and logs.
func (f Framing) String() string {
	if f == FramedV1 {
		return "framed-v1"
	}
	return "raw"
}

// FramingInput asks which framing the body of an answer has on each leg
// (ABI.md §6.4).
type FramingInput struct {
	Route        string
	Transport    Transport
	Path         string
	Subprotocols []string
	Headers      []Header // those named in Shape.FramingHeaders
}

// FramingOutput is the answer.
type FramingOutput struct {
	Client       Framing
	Upstream     Framing
	MaxFrameSize uint32 // bytes; 0, or more than it: the route's max_frame_size
}

// FaultInput describes a refusal by Weir or a failure of the upstream.
type FaultInput struct {
	Route     string
	Code      FaultCode // empty: an upstream's own error
	Status    uint16    // HTTP status: the upstream's own, else the catalogue's
	ErrorType string    // value of Shape.ErrorTypeHeader, if any
	Body      []byte    // a prefix of an upstream's error body, at most 1 KiB
}

// FaultOutput classifies it.
type FaultOutput struct {
	Retryable    bool
	RetryAfterMS uint32 // 0: none given; ignored of what is not retryable
}

// ErrorInput asks for the envelope of one fault.
type ErrorInput struct {
	Route     string
	Code      FaultCode // or Gap
	Transport Transport
	Direction Direction // of the message that was refused; ToUpstream on HTTP
}

// Recipient of an envelope.
type Recipient uint8

// Recipients.
const (
	ToSender   Recipient = 0
	ToReceiver Recipient = 1 // in the refused message's place
	ToNobody   Recipient = 2 // counted only
)

// ErrorOutput is an envelope as a template; the slots are ABI.md §7.2.
type ErrorOutput struct {
	Template    string // none: the native one, and no notice for Gap
	ContentType string // HTTP; default application/problem+json
	Recipient   Recipient
	Status      uint16 // HTTP status; 0: the catalogue's
	Close       uint16 // close code when the fault ends the tunnel; 0: the catalogue's
	Binary      bool   // WebSocket: send as a binary message
}
