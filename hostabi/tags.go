package hostabi

// Tags are numbered within their message; ABI.md §6 has the same tables, and a
// test holds the two equal. The comment begins with the type on the wire.

// Tags of ConfigureInput (ABI.md §6.1).
const (
	TagConfigureInputPolicy    = 1 // string
	TagConfigureInputConfig    = 2 // bytes
	TagConfigureInputHostMinor = 3 // u16
	TagConfigureInputFeatures  = 4 // list of string
)

// Tags of Shape (ABI.md §6.1).
const (
	TagShapeEventKey        = 1 // list of string
	TagShapeKeep            = 2 // list of string
	TagShapePrewarm         = 3 // list of string
	TagShapeConstant        = 4 // list of u8
	TagShapeFramingHeaders  = 5 // list of string
	TagShapeAdmitHeaders    = 6 // list of string
	TagShapeErrorTypeHeader = 7 // string
)

// Tags of ClassifyInput (ABI.md §6.2).
const (
	TagClassifyInputRoute     = 1 // string
	TagClassifyInputDirection = 2 // enum 0–1
	TagClassifyInputKey       = 3 // bytes
)

// Tags of Rule (ABI.md §6.2).
const (
	TagRuleClass    = 1 // enum 0–1
	TagRuleUnless   = 2 // string
	TagRuleConflate = 3 // string
	TagRulePriority = 4 // u8
	TagRuleMaxSize  = 5 // u64
)

// Tags of AdmitInput (ABI.md §6.3).
const (
	TagAdmitInputRoute     = 1 // string
	TagAdmitInputTransport = 2 // enum 0–1
	TagAdmitInputMethod    = 3 // string
	TagAdmitInputHost      = 4 // string
	TagAdmitInputPath      = 5 // string
	TagAdmitInputQuery     = 6 // string
	TagAdmitInputPeer      = 7 // string
	TagAdmitInputHeaders   = 8 // list of header
)

// Tags of AdmitOutput (ABI.md §6.3).
const (
	TagAdmitOutputDeny       = 1 // bool
	TagAdmitOutputCode       = 2 // string
	TagAdmitOutputMessage    = 3 // string
	TagAdmitOutputLimitClass = 4 // string
)

// Tags of FramingInput (ABI.md §6.4).
const (
	TagFramingInputRoute        = 1 // string
	TagFramingInputTransport    = 2 // enum 0–1
	TagFramingInputPath         = 3 // string
	TagFramingInputSubprotocols = 4 // list of string
	TagFramingInputHeaders      = 5 // list of header
)

// Tags of FramingOutput (ABI.md §6.4).
const (
	TagFramingOutputClient       = 1 // enum 0–1
	TagFramingOutputUpstream     = 2 // enum 0–1
	TagFramingOutputMaxFrameSize = 3 // u32
)

// Tags of FaultInput (ABI.md §6.5).
const (
	TagFaultInputRoute     = 1 // string
	TagFaultInputCode      = 2 // string
	TagFaultInputStatus    = 3 // u16
	TagFaultInputErrorType = 4 // string
	TagFaultInputBody      = 5 // bytes
)

// Tags of FaultOutput (ABI.md §6.5).
const (
	TagFaultOutputRetryable    = 1 // bool
	TagFaultOutputRetryAfterMS = 2 // u32
)

// Tags of ErrorInput (ABI.md §6.6).
const (
	TagErrorInputRoute     = 1 // string
	TagErrorInputCode      = 2 // string
	TagErrorInputTransport = 3 // enum 0–1
	TagErrorInputDirection = 4 // enum 0–1
)

// Tags of ErrorOutput (ABI.md §6.6).
const (
	TagErrorOutputTemplate    = 1 // string
	TagErrorOutputContentType = 2 // string
	TagErrorOutputRecipient   = 3 // enum 0–2
	TagErrorOutputStatus      = 4 // u16
	TagErrorOutputClose       = 5 // u16
	TagErrorOutputBinary      = 6 // bool
)

// Tags of Refusal (ABI.md §5.2).
const (
	TagRefusalMessage = 1 // string
)
