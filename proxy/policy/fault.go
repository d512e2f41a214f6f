package policy

import (
	"encoding/binary"
	"time"

	"weir/hostabi"
)

// Fault tells whether what failed is worth trying again.
type Fault struct {
	Retryable  bool
	RetryAfter time.Duration // 0: none given, as of all that is not retryable
}

const (
	backoffFirst = time.Second      // retry-after while the fault hook fails, the first time
	backoffMax   = 30 * time.Second // and at most, doubling with each failure in a row

	maxFaultBody = 1 << 10 // bytes of an upstream's error body that the hook sees
	maxErrorType = 128     // bytes of an error type that answers are cached by
)

// Fault returns the class of one of Weir's own faults. It waits for no guest: a class
// that is out of date is asked for beside, and stands until the answer is there.
func (v *View) Fault(c hostabi.FaultCode) Fault {
	i := indexOf(c)
	s := &v.faults[i]
	if s.due(v.policy) {
		v.policy.beside(func() { s.set(v.classifyFault(codeAt(i))) })
	}
	return *s.value.Load()
}

// classifyFault asks for the class of c. An answer that may not be cached is
// kept for a moment all the same: a flood of refusals costs no guest calls.
func (v *View) classifyFault(c hostabi.FaultCode) (*Fault, int64) {
	row := faultRow(c)
	f := Fault{Retryable: row.Retryable}
	if c == hostabi.Gap || !v.asks(hostabi.FaultHook) {
		return &f, 0
	}
	p := v.policy
	in := hostabi.FaultInput{Route: v.route, Code: c, Status: uint16(row.Status)}
	var until int64
	native := f
	_ = p.patiently(patience, func() (err error) { // the class is good after a failure, too
		f, until, err = p.askFault(&in, native)
		return err
	})
	if until == expired {
		until = nanos(p.now().Add(faultTTL))
	}
	return &f, until
}

// UpstreamFault returns the class of an upstream's error answer; in.Route is the
// view's own. Only the first 1,024 bytes of in.Body are shown to the guest. An
// answer that the guest calls cacheable is kept by code, status and error type.
func (v *View) UpstreamFault(in *hostabi.FaultInput) Fault {
	p := v.policy
	f := Fault{Retryable: hostabi.DefaultFault(in).Retryable}
	if !v.asks(hostabi.FaultHook) {
		return f
	}
	ask := *in
	ask.Route = v.route
	ask.Body = in.Body[:min(len(in.Body), maxFaultBody)]
	if len(ask.ErrorType) > maxErrorType && !p.closed.Load() {
		f, _, _ = p.askFault(&ask, f)
		return f
	}
	var scratch [2 + 2*maxErrorType]byte
	key := binary.LittleEndian.AppendUint16(scratch[:0], in.Status)
	key = append(append(append(key, in.Code...), 0), in.ErrorType...)
	now := p.now()
	if cached, ok := v.upstream.get(key, now); ok {
		return cached
	}
	if p.closed.Load() {
		return f
	}
	f, until, _ := p.askFault(&ask, f)
	v.upstream.put(key, f, until)
	return f
}

// askFault asks the guest for a class; native is what stands when it has no
// opinion. When it fails, everything is retryable, later and later.
func (p *Policy) askFault(in *hostabi.FaultInput, native Fault) (Fault, int64, error) {
	var out hostabi.FaultOutput
	a, err := p.ask(nil, hostabi.FaultHook, in, &out, nil)
	if err != nil {
		n := min(p.streak.Add(1)-1, 5)
		return Fault{true, min(backoffFirst<<n, backoffMax)}, nanos(p.now().Add(faultTTL)), err
	}
	p.streak.Store(0)
	if !a.opinion {
		return native, p.expiry(a.cache), nil
	}
	f := Fault{Retryable: out.Retryable}
	if f.Retryable {
		f.RetryAfter = time.Duration(out.RetryAfterMS) * time.Millisecond
	}
	return f, p.expiry(a.cache), nil
}

// NeedsFault tells whether an upstream's error answers are to be shown to the
// guest.
func (v *View) NeedsFault() bool { return v.asks(hostabi.FaultHook) }

// ErrorTypeHeader names the response header with an upstream's error type;
// empty when the policy reads none.
func (v *View) ErrorTypeHeader() string { return v.policy.shape.ErrorTypeHeader }
