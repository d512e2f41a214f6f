package sdk

import (
	"slices"
	"strconv"

	"weir/hostabi"
)

// Call asks the registered policy as the host would; in is an encoded input
// message. It is how a policy is tested natively.
func Call(h hostabi.Hook, in []byte) (out []byte, r hostabi.Result) {
	out = make([]byte, hostabi.MaxOutput)
	r = new(caller).call(h, in, out)
	return out[:r.Len()], r
}

// caller holds what calls reuse, so that a hook that allocates nothing itself
// leaves no garbage behind.
type caller struct {
	classify ClassifyInput
	admit    AdmitInput
	framing  FramingInput
	fault    FaultInput
	error    ErrorInput

	rule     Rule
	verdict  AdmitOutput
	framings FramingOutput
	retry    FaultOutput
	envelope ErrorOutput

	scratch []byte // outputs are encoded here: they may quote the input, which they will replace
}

// call asks hook h and leaves its output in out, whose length is its bound.
func (c *caller) call(h hostabi.Hook, in, out []byte) hostabi.Result {
	p := &registered
	switch h {
	case hostabi.Configure:
		return p.configure(c, in, out)
	case hostabi.Classify:
		return ask(p.Classify, c, &c.classify, &c.rule, in, out)
	case hostabi.Admit:
		return ask(p.Admit, c, &c.admit, &c.verdict, in, out)
	case hostabi.FramingHook:
		return ask(p.Framing, c, &c.framing, &c.framings, in, out)
	case hostabi.FaultHook:
		return ask(p.Fault, c, &c.fault, &c.retry, in, out)
	case hostabi.ErrorHook:
		return ask(p.Error, c, &c.error, &c.envelope, in, out)
	}
	return hostabi.MakeResult(0, hostabi.StatusUnsupported, hostabi.CacheNo)
}

func (p *Policy) configure(c *caller, in, out []byte) hostabi.Result {
	var input ConfigureInput
	if err := input.Decode(slices.Clone(in)); err != nil { // settings are kept
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
	return c.finish(&shape, out, Always)
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
	message
}

type message interface{ AppendTo(dst []byte) []byte }

// ask decodes in into input, calls f and encodes its output.
func ask[I, O any, D decoder[I], E encoder[O]](f func(*I) (O, Answer), c *caller, input *I, output *O, in, out []byte) hostabi.Result {
	if f == nil {
		return hostabi.MakeResult(0, NoOpinion.status, NoOpinion.cache)
	}
	if err := D(input).Decode(in); err != nil {
		return refuse(hostabi.StatusBadInput, err.Error(), out)
	}
	var a Answer
	*output, a = f(input)
	if a.status != hostabi.StatusOK {
		return hostabi.MakeResult(0, a.status, a.cache)
	}
	return c.finish(E(output), out, a)
}

// finish encodes an output and packs the result; one that is too long for out
// becomes the guest's failure.
func (c *caller) finish(m message, out []byte, a Answer) hostabi.Result {
	c.scratch = m.AppendTo(c.scratch[:0])
	if len(c.scratch) > len(out) {
		return refuse(hostabi.StatusGuest, "output of "+strconv.Itoa(len(c.scratch))+" bytes exceeds "+strconv.Itoa(len(out)), out)
	}
	return hostabi.MakeResult(uint32(copy(out, c.scratch)), a.status, a.cache)
}

// refuse answers with a Refusal, cut to what fits out.
func refuse(s hostabi.Status, why string, out []byte) hostabi.Result {
	m := hostabi.Refusal{Message: why}
	if b := m.AppendTo(nil); len(b) > len(out) {
		m.Message = why[:max(0, len(why)-(len(b)-len(out)))]
	}
	return hostabi.MakeResult(uint32(copy(out, m.AppendTo(nil))), s, hostabi.CacheNo)
}
