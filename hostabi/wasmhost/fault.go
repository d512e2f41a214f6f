package wasmhost

import (
	"fmt"
	"strings"
	"time"

	"weir/hostabi"
	"weir/hostabi/wasmhost/rewrite"
)

// Kind says how a call failed.
type Kind string

// Kinds of Fault.
const (
	Trap        Kind = "trap"        // the guest trapped, exited, or overflowed its stack
	Timeout     Kind = "timeout"     // the guest was still running when its time was up
	Output      Kind = "output"      // the result breaks ABI.md §5: too long, outside memory, reserved status
	Input       Kind = "input"       // the host was asked to pass more than hostabi.MaxInput bytes
	Unavailable Kind = "unavailable" // not called: the breaker is open, no instance was free in time, or the module is closed
)

// Fault is a call that produced no answer: the hook's native fallback applies.
type Fault struct {
	Policy string
	Hook   hostabi.Hook
	Kind   Kind
	Err    error // what happened, with the guest's stack when there is one
}

// Error names the policy, the hook and the cause.
func (f *Fault) Error() string {
	return fmt.Sprintf("policy %q: hook %s: %s: %v", f.Policy, f.Hook, f.Kind, f.Err)
}

// Line is what happened in one line, without the guest's stack, and what to do.
func (f *Fault) Line() string {
	s := string(f.Kind) + ": " + firstLine(f.Err)
	if r := f.remedy(); r != "" {
		s += "; " + r
	}
	return s
}

func (f *Fault) remedy() string {
	switch f.Kind {
	case Trap:
		return trapRemedy(f.Err)
	case Timeout:
		return "do less in a hook: prepare in weir_configure what it needs"
	case Output:
		return "return the length of the output and a status as in ABI.md §5.2"
	}
	return ""
}

// trapRemedies are by what the first line of an error has.
var trapRemedies = []struct{ says, remedy string }{
	{"the guest exited", "it must not: what it logged, as the message of a panic, may say why it did"},
	{"unreachable", "the guest gave up, as after a panic: what it logged may say why"},
	{"stack overflow", "it recurses without end or too deeply: bound it, or loop"},
	{"out of bounds memory access", "it reads or writes outside its memory: check pointers, lengths and the region of weir_buffer"},
	{"integer divide by zero", "check the divisor"},
	{"invalid table access", "it calls through a function pointer that is none"},
	{"indirect call type mismatch", "it calls a function by another type than its own"},
}

// trapRemedy is what to do about a trap or an exit, empty when nothing is known.
func trapRemedy(err error) string {
	line := firstLine(err)
	for _, r := range trapRemedies {
		if strings.Contains(line, r.says) {
			return r.remedy
		}
	}
	return ""
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

// LateError is a call that was not made since what it needs was not there in time:
// as often as the guest, a busy machine is why.
type LateError struct {
	What  string
	Limit time.Duration
}

// Error says what was late and how long it was waited for.
func (e *LateError) Error() string { return e.What + " within " + e.Limit.String() }

// LoadError is a module that was refused before it could serve: what is wrong,
// and what its author or operator does about it.
type LoadError struct {
	Policy string
	Stage  Stage
	Reason string // what is wrong; measured and allowed where there is a limit
	Remedy string // what to do; empty when the reason says it
	Err    error  // the cause, if any
}

// Stage is the step of loading that refused a module.
type Stage string

// Stages of Load, in order.
const (
	Validate    Stage = "validate"    // the bytes alone; no guest code has run
	Compile     Stage = "compile"     // the engine refused the module
	Instantiate Stage = "instantiate" // the start function, _initialize, weir_abi or weir_buffer
	Configure   Stage = "configure"   // weir_configure
)

// Error says what is wrong and what to do.
func (e *LoadError) Error() string {
	s := fmt.Sprintf("policy %q: %s: %s", e.Policy, e.Stage, e.Reason)
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Unwrap returns the cause, or nil.
func (e *LoadError) Unwrap() error { return e.Err }

// refuse is a LoadError of static validation; Load fills in the policy.
func refuse(remedy, format string, args ...any) *LoadError {
	return &LoadError{Stage: Validate, Reason: fmt.Sprintf(format, args...), Remedy: remedy}
}

// asLoadError is the LoadError for what package rewrite refuses; other errors, and
// nil, are what they are.
func asLoadError(err error) error {
	if e, ok := err.(*rewrite.Error); ok {
		return &LoadError{Stage: Validate, Reason: e.Reason, Remedy: e.Remedy}
	}
	return err
}
