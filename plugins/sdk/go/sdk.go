// Package sdk makes a Go program a Weir policy: register functions for the
// hooks you care about, and build with GOOS=wasip1 -buildmode=c-shared.
//
// The package compiles natively too, so that a policy is tested with go test:
// see Call. What the hooks mean is hostabi/ABI.md.
package sdk

import "weir/hostabi"

// The messages of the hooks, so that a policy needs no second import.
type (
	ConfigureInput = hostabi.ConfigureInput
	Shape          = hostabi.Shape
	ClassifyInput  = hostabi.ClassifyInput
	Rule           = hostabi.Rule
	AdmitInput     = hostabi.AdmitInput
	AdmitOutput    = hostabi.AdmitOutput
	FramingInput   = hostabi.FramingInput
	FramingOutput  = hostabi.FramingOutput
	FaultInput     = hostabi.FaultInput
	FaultOutput    = hostabi.FaultOutput
	ErrorInput     = hostabi.ErrorInput
	ErrorOutput    = hostabi.ErrorOutput
)

// Classes of a Rule.
const (
	Critical  = hostabi.Critical
	Droppable = hostabi.Droppable
)

// Answer says what becomes of a hook's output. The zero Answer is Once.
type Answer struct {
	status hostabi.Status
	cache  hostabi.Cacheability
}

// Answers.
var (
	// Always: the output holds for equal inputs as long as the configuration lives.
	Always = Answer{cache: hostabi.CacheGeneration}
	// Once: the output is for this call only.
	Once = Answer{}
	// NoOpinion: the output is ignored and the native default applies, for
	// equal inputs as long as the configuration lives.
	NoOpinion = Answer{hostabi.StatusNoOpinion, hostabi.CacheGeneration}
)

// Seconds says that the output holds for n seconds, at most 65,534.
func Seconds(n uint16) Answer {
	return Answer{cache: min(hostabi.Cacheability(n), hostabi.CacheGeneration-1)}
}

// If is Always when ok, else NoOpinion.
func If(ok bool) Answer {
	if ok {
		return Always
	}
	return NoOpinion
}

// Policy is the functions of a policy. All are optional: an unset hook has no
// opinion, and the host is told not to ask it.
//
// The functions must be pure after Configure (ABI.md §1). What they are handed,
// strings included, is good until they return: clone what you keep, except in
// Configure. They should leave little garbage: a collection in the interpreter
// takes longer than a call may.
type Policy struct {
	// Shape is what Configure starts from, and the whole shape without one.
	Shape Shape
	// Configure reads the operator's settings (package conf helps). An error
	// refuses them and is shown to the operator. Without Configure any setting
	// is refused.
	Configure func(in *ConfigureInput, shape *Shape) error
	// Classify says what may be shed (ABI.md §6.2).
	Classify func(*ClassifyInput) (Rule, Answer)
	// Admit accepts or refuses a request (ABI.md §6.3).
	Admit func(*AdmitInput) (AdmitOutput, Answer)
	// Framing chooses the framing of each leg (ABI.md §6.4).
	Framing func(*FramingInput) (FramingOutput, Answer)
	// Fault says what is worth retrying (ABI.md §6.5).
	Fault func(*FaultInput) (FaultOutput, Answer)
	// Error gives the envelope of a fault (ABI.md §6.6).
	Error func(*ErrorInput) (ErrorOutput, Answer)
}

var registered Policy // by Register, before the host's first call

// Register makes p the policy of this module; call it from init.
func Register(p Policy) { registered = p }
