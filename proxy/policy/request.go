package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"weir/hostabi"
	"weir/hostabi/wasmhost"
)

// maxMemoInput is the longest framing input that answers are cached by.
const maxMemoInput = 1 << 10

// NeedsAdmit tells whether requests are to be shown to the guest.
func (v *View) NeedsAdmit() bool { return v.asks(hostabi.Admit) }

// AdmitHeaders are the lower-case names of the request headers that Admit
// wants to see; "*" means all.
func (v *View) AdmitHeaders() []string { return v.policy.shape.AdmitHeaders }

// Judges tells whether Admit wants to see a header of that name, or one that some
// upstreams take for it: CGI knows underscores alone, which lighttpd has for whatever is
// neither letter nor digit.
func (v *View) Judges(name []byte) bool {
	like := dashed(string(name))
	return slices.ContainsFunc(v.AdmitHeaders(), func(n string) bool {
		return n == "*" || len(n) == len(like) && dashed(n) == like
	})
}

// dashed is a header's name in lower case, with dashes for all but letters and digits.
func dashed(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
}

// Request makes what Admit is asked with, when there is a guest to ask.
type Request func() *hostabi.AdmitInput

// AppendTo implements what a hook is asked with.
func (r Request) AppendTo(dst []byte) []byte { return r().AppendTo(dst) }

// Admit asks for who whether a request may pass; its Route is the view's own, and a denial
// has a code. While the guest fails, it is denied with policy_failed, or let in
// when the policy's on_fault is "open". A request above hostabi.MaxInput is denied
// either way, one that the guest had no time for, and one that an answer denies which
// is otherwise not allowed.
func (v *View) Admit(who Caller, r Request) hostabi.AdmitOutput {
	if !v.NeedsAdmit() {
		return hostabi.AdmitOutput{}
	}
	p := v.policy
	in := Request(func() *hostabi.AdmitInput {
		in := r()
		in.Route = v.route
		return in
	})
	out, err := p.admit(who, in)
	switch {
	case err == nil:
		return out
	case p.open && !out.Deny && !busy(err) && !tooLong(in): // clients must not open the door by their size or number
		return hostabi.AdmitOutput{}
	}
	return hostabi.AdmitOutput{Deny: true, Code: hostabi.PolicyFailed, Message: "the policy did not answer"}
}

// tooLong tells whether no guest can be asked for the length of its input, which is the
// peer's doing: also when none was.
func tooLong(in encoder) bool { return len(in.AppendTo(nil)) > hostabi.MaxInput }

// busy tells whether a call was not made for all the others that are.
func busy(err error) bool {
	_, busy := errors.AsType[*wasmhost.LateError](err)
	return busy
}

func (p *Policy) admit(who Caller, in encoder) (hostabi.AdmitOutput, error) {
	var out hostabi.AdmitOutput
	a, err := p.ask(who, hostabi.Admit, in, &out, func() error {
		if _, known := hostabi.Lookup(out.Code); out.Code != "" && !known {
			return fmt.Errorf("code %.64q is not in the catalogue", out.Code)
		}
		return nil
	})
	if err != nil || !a.opinion {
		return hostabi.AdmitOutput{Deny: out.Deny}, err
	}
	if c := out.LimitClass; len(c) > hostabi.MaxLimitClass {
		out.LimitClass = strings.Clone(c[:hostabi.MaxLimitClass]) // nobody counts what a tunnel keeps of it
	}
	if out.Deny && out.Code == "" {
		out.Code = hostabi.NotAdmitted
	}
	return out, nil
}

// NeedsFraming tells whether streams are to be shown to the guest.
func (v *View) NeedsFraming() bool { return v.asks(hostabi.FramingHook) }

// FramingHeaders are the lower-case names of the request headers that Framing
// wants to see.
func (v *View) FramingHeaders() []string { return v.policy.shape.FramingHeaders }

// Framing asks which framing each leg speaks: raw on both when the guest has no
// opinion or fails; in.Route is the view's own. An answer that the guest calls
// cacheable is kept for inputs that are equal in every byte.
func (v *View) Framing(who Caller, in *hostabi.FramingInput) hostabi.FramingOutput {
	p := v.policy
	if !v.NeedsFraming() {
		return hostabi.FramingOutput{}
	}
	ask := *in
	ask.Route = v.route
	b := bufferPool.Get().(*buffers)
	b.in = ask.AppendTo(b.in[:0])
	out, ok := v.framings.get(b.in, p.now())
	bufferPool.Put(b) // it may have to wait: see question
	if ok {
		return out
	}
	if p.closed.Load() {
		return hostabi.FramingOutput{}
	}
	out, until, _ := p.framing(who, &ask)
	if key := ask.AppendTo(nil); len(key) <= maxMemoInput {
		v.framings.put(key, out, until)
	}
	return out
}

func (p *Policy) framing(who Caller, in *hostabi.FramingInput) (hostabi.FramingOutput, int64, error) {
	var out hostabi.FramingOutput
	a, err := p.ask(who, hostabi.FramingHook, in, &out, nil)
	if err != nil {
		return hostabi.FramingOutput{}, nanos(p.now().Add(faultTTL)), err
	}
	if !a.opinion {
		out = hostabi.FramingOutput{}
	}
	return out, p.expiry(a.cache), nil
}
