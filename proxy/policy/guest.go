package policy

import (
	"cmp"
	"errors"
	"fmt"
	"sync"

	"weir/hostabi"
	"weir/hostabi/wasmhost"
)

// Guest is a configured module; *wasmhost.Module is one.
type Guest interface {
	Shape() []byte
	Has(h hostabi.Hook) bool
	Ask(h hostabi.Hook, who wasmhost.Caller) ([]byte, hostabi.Result, error)
	Info() wasmhost.Info
	Close()
}

type encoder interface{ AppendTo(dst []byte) []byte }

type decoder interface{ Decode(b []byte) error }

// answer is a call that worked.
type answer struct {
	opinion bool // false: the native default applies
	cache   hostabi.Cacheability
}

// Results of a call beside the other kinds of wasmhost.Fault, as metrics names them.
const (
	resultOK          = "ok"
	resultNoOpinion   = "no_opinion"
	resultBadInput    = "bad_input"
	resultUnsupported = "unsupported"
	resultGuest       = "guest"                 // the guest's own failure
	resultOutput      = string(wasmhost.Output) // an answer that is malformed or not allowed
)

// failure is a call that did not work.
type failure struct {
	result string
	err    error  // with the guest's stack when there is one
	line   string // says it in one; empty: err does
}

func (f *failure) Error() string { return cmp.Or(f.line, f.err.Error()) }
func (f *failure) Unwrap() error { return f.err }

// Caller is who a guest is asked for, when that may be on a loop. *http1.Exchange is
// one.
type Caller interface {
	Leave()   // called before the guest computes
	Lighten() // called before others' calls are waited for
}

// question is one call: a wasmhost.Caller.
type question struct {
	who Caller // nil: nobody need know
	in  encoder
	b   *buffers // nil until there is an instance
}

func (q *question) Wait() {
	if q.who != nil {
		q.who.Lighten()
	}
}

func (q *question) Input() (in, out []byte) {
	if q.who != nil {
		q.who.Leave()
	}
	q.b = bufferPool.Get().(*buffers)
	q.b.in = q.in.AppendTo(q.b.in[:0])
	return q.b.in, q.b.out
}

func (q *question) release() {
	if q.b != nil {
		bufferPool.Put(q.b)
	}
}

// buffers are the input and output of one call.
type buffers struct{ in, out []byte }

var bufferPool = sync.Pool{New: func() any { return &buffers{out: make([]byte, 0, hostabi.MaxOutput)} }}

// ask calls a hook for who and decodes its answer; check, if any, refuses what decodes
// but is not allowed. It counts and reports what happened; an error is a *failure.
func (p *Policy) ask(who Caller, h hostabi.Hook, in encoder, out decoder, check func() error) (answer, error) {
	start := p.now()
	a, f := p.call(who, h, in, out, check)
	result := resultOK
	switch {
	case f != nil:
		result = f.result
	case !a.opinion:
		result = resultNoOpinion
	}
	now := p.now()
	if p.metrics != nil {
		p.metrics.PolicyCall(h, result, now.Sub(start))
	}
	if f == nil {
		return a, nil
	}
	if p.ready && !p.closed.Load() { // before, Load tells; afterwards it is no fault
		p.report.fault(now, h, f)
	}
	return a, f
}

// patience is how often a call that timed out is made when there is time for it:
// a busy machine is not the guest's fault.
const patience = 3

// patiently calls at most tries times, as long as what answers is late.
func (p *Policy) patiently(tries int, call func() error) (err error) {
	for range tries {
		if err = call(); !p.late(err) {
			break
		}
	}
	return err
}

// late reports whether the guest timed out, or, while nobody but Load waits for it,
// had no instance free.
func (p *Policy) late(err error) bool {
	if f, ok := errors.AsType[*failure](err); ok && f.result == string(wasmhost.Timeout) {
		return true
	}
	return busy(err) && !p.ready
}

func (p *Policy) call(who Caller, h hostabi.Hook, in encoder, out decoder, check func() error) (answer, *failure) {
	q := &question{who: who, in: in}
	defer q.release()
	n, r, err := p.guest.Ask(h, q)
	if err != nil {
		return answer{}, newFailure(err)
	}
	switch r.Status() {
	case hostabi.StatusOK:
	case hostabi.StatusNoOpinion:
		return answer{cache: r.Cache()}, nil
	default:
		p.faults.Add(1)
		return answer{}, refusal(r.Status(), n)
	}
	if err = out.Decode(n); err != nil {
		err = undecoded(err)
	} else if check != nil {
		err = check()
	}
	if err != nil {
		p.faults.Add(1)
		return answer{}, &failure{result: resultOutput, err: err}
	}
	return answer{opinion: true, cache: r.Cache()}, nil
}

// undecoded says of output that is no message what to do.
func undecoded(err error) error {
	return fmt.Errorf("%w; encode answers as ABI.md §6 says, or have an SDK do it", err)
}

// refusal says why a guest refused its input (ABI.md §5.2).
func refusal(s hostabi.Status, output []byte) *failure {
	f := &failure{result: resultGuest, err: fmt.Errorf("refused with status %d", s)}
	var why hostabi.Refusal
	if why.Decode(output) == nil && why.Message != "" {
		f.err = fmt.Errorf("refused with status %d: %s", s, why.Message)
	}
	switch s {
	case hostabi.StatusBadInput:
		f.result = resultBadInput
	case hostabi.StatusUnsupported:
		f.result = resultUnsupported
	}
	return f
}

// newFailure is a call that the host gave up; policy and hook are named by who
// reports it.
func newFailure(err error) *failure {
	if f, ok := errors.AsType[*wasmhost.Fault](err); ok {
		return &failure{string(f.Kind), fmt.Errorf("%s: %w", f.Kind, f.Err), f.Line()}
	}
	return &failure{result: "error", err: err}
}
