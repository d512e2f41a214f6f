package sdk

import (
	"strconv"

	"weir/hostabi"
)

// Call asks the registered policy as the host would; in is an encoded input
// message. It is how a policy is tested natively.
func Call(h hostabi.Hook, in []byte) (out []byte, r hostabi.Result) {
	out = make([]byte, hostabi.MaxOutput)
	r = call(h, in, out)
	return out[:r.Len()], r
}

// call asks hook h and leaves its output in out, whose length is its bound.
func call(h hostabi.Hook, in, out []byte) hostabi.Result {
	p := &registered
	switch h {
	case hostabi.Configure:
		return p.configure(in, out)
	case hostabi.Classify:
		return ask(p.Classify, in, out)
	case hostabi.Admit:
		return ask(p.Admit, in, out)
	case hostabi.FramingHook:
		return ask(p.Framing, in, out)
	case hostabi.FaultHook:
		return ask(p.Fault, in, out)
	case hostabi.ErrorHook:
		return ask(p.Error, in, out)
	}
	return hostabi.MakeResult(0, hostabi.StatusUnsupported, hostabi.CacheNo)
}

func (p *Policy) configure(in, out []byte) hostabi.Result {
	var input ConfigureInput
	if err := input.Decode(in); err != nil {
		return refuse(hostabi.StatusBadInput, err.Error(), out)
	}
	shape := p.Shape
	if p.Configure != nil {
		if err := p.Configure(&input, &shape); err != nil {
			return refuse(hostabi.StatusBadInput, err.Error(), out)
		}
	} else if c := string(input.Config); c != "" && c != "{}" {
		return refuse(hostabi.StatusBadInput, "config: this policy has no settings", out)
	}
	shape.Constant = append(p.unset(), shape.Constant...)
	return finish(shape.AppendTo(out[:0]), out, Always)
}

// unset are the hooks that have no function.
func (p *Policy) unset() (hooks []hostabi.Hook) {
	for h, set := range [hostabi.NumHooks]bool{
		hostabi.Configure:   true,
		hostabi.Classify:    p.Classify != nil,
		hostabi.Admit:       p.Admit != nil,
		hostabi.FramingHook: p.Framing != nil,
		hostabi.FaultHook:   p.Fault != nil,
		hostabi.ErrorHook:   p.Error != nil,
	} {
		if !set {
			hooks = append(hooks, hostabi.Hook(h))
		}
	}
	return hooks
}

type decoder[T any] interface {
	*T
	Decode(b []byte) error
}

type encoder[T any] interface {
	*T
	AppendTo(dst []byte) []byte
}

// ask decodes in, calls f and encodes its output.
func ask[I, O any, D decoder[I], E encoder[O]](f func(*I) (O, Answer), in, out []byte) hostabi.Result {
	if f == nil {
		return finish(nil, out, NoOpinion)
	}
	var input I
	if err := D(&input).Decode(in); err != nil {
		return refuse(hostabi.StatusBadInput, err.Error(), out)
	}
	output, a := f(&input)
	if a.status != hostabi.StatusOK {
		return finish(nil, out, a)
	}
	return finish(E(&output).AppendTo(out[:0]), out, a)
}

// finish packs the result of an output that was appended to out[:0]; what
// outgrew out lies elsewhere and becomes the guest's failure.
func finish(output, out []byte, a Answer) hostabi.Result {
	if len(output) > len(out) {
		return refuse(hostabi.StatusGuest, "output of "+strconv.Itoa(len(output))+" bytes exceeds "+strconv.Itoa(len(out)), out)
	}
	return hostabi.MakeResult(uint32(len(output)), a.status, a.cache)
}

// refuse answers with a Refusal, cut to what fits out.
func refuse(s hostabi.Status, message string, out []byte) hostabi.Result {
	m := hostabi.Refusal{Message: message}
	if b := m.AppendTo(out[:0]); len(b) > len(out) {
		m.Message = message[:max(0, len(message)-(len(b)-len(out)))]
	}
	return hostabi.MakeResult(uint32(len(m.AppendTo(out[:0]))), s, hostabi.CacheNo)
}
