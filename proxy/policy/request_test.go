package policy

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
)

func open(c *config.Policy) { c.OnFault = "open" }

// admit asks v for somebody who may wait.
func admit(v *View, in *hostabi.AdmitInput) hostabi.AdmitOutput {
	return v.Admit(nil, func() *hostabi.AdmitInput { in := *in; return &in })
}

func TestAdmit(t *testing.T) {
	g := whole()
	g.admit = func(in *hostabi.AdmitInput) (hostabi.AdmitOutput, hostabi.Result) {
		switch in.Path {
		case "/deny":
			return hostabi.AdmitOutput{Deny: true, Message: "no"}, ok
		case "/busy":
			return hostabi.AdmitOutput{Deny: true, Code: hostabi.RateLimited}, ok
		case "/odd":
			return hostabi.AdmitOutput{Deny: true, Code: "made_up"}, ok
		case "/long":
			return hostabi.AdmitOutput{LimitClass: strings.Repeat("c", 8000)}, ok
		case "/class":
			return hostabi.AdmitOutput{LimitClass: in.Route}, ok
		}
		return hostabi.AdmitOutput{}, noView
	}
	r := start(t, g)
	v := r.View("chat")
	want(t, "needs admit", v.NeedsAdmit(), true)
	failed := hostabi.AdmitOutput{Deny: true, Code: hostabi.PolicyFailed, Message: "the policy did not answer"}
	for path, out := range map[string]hostabi.AdmitOutput{
		"/":      {},
		"/deny":  {Deny: true, Code: hostabi.NotAdmitted, Message: "no"},
		"/busy":  {Deny: true, Code: hostabi.RateLimited},
		"/odd":   failed,
		"/class": {LimitClass: "chat"},
		"/long":  {LimitClass: strings.Repeat("c", hostabi.MaxLimitClass)}, // a tunnel keeps it
	} {
		want(t, path, admit(v, &hostabi.AdmitInput{Path: path, Route: "the caller's"}), out)
	}
	want(t, "counted as malformed", r.counted(t, hostabi.Admit, "output"), 1)
	calls := g.calls[hostabi.Admit].Load()
	admit(v, &hostabi.AdmitInput{})
	admit(v, &hostabi.AdmitInput{})
	want(t, "calls: never cached", g.calls[hostabi.Admit].Load(), calls+2)
}

// on_fault = "open" is for a policy that does not answer: what it denies stays denied, by
// a code of a later ABI, too.
func TestADenialThatIsNotAllowedIsOne(t *testing.T) {
	g := whole()
	r := start(t, g, open)
	v := r.View("r")
	out := hostabi.AdmitOutput{Deny: true, Code: "made_up"}
	for name, raw := range map[string][]byte{"code": out.AppendTo(nil), "cut off": {1, 0, 1, 0, 1, 2}} {
		g.raw[hostabi.Admit] = raw
		want(t, name, admit(v, &hostabi.AdmitInput{}).Code, hostabi.PolicyFailed)
	}
	g.raw[hostabi.Admit] = []byte{1}
	want(t, "no answer", admit(v, &hostabi.AdmitInput{}).Deny, false)
}

func TestAdmitWhileThePolicyIsDown(t *testing.T) {
	long := hostabi.AdmitInput{Query: strings.Repeat("x", hostabi.MaxInput)}
	for _, c := range []struct {
		name string
		edit func(*config.Policy)
		deny bool
	}{{"closed", func(*config.Policy) {}, true}, {"open", open, false}} {
		g := whole()
		r := start(t, g, c.edit)
		v := r.View("r")
		want(t, c.name+": too long", admit(v, &long).Code, hostabi.PolicyFailed)
		want(t, c.name+": calls", g.calls[hostabi.Admit].Load(), 0)
		g.down.Store(true)
		want(t, c.name+": down", admit(v, &hostabi.AdmitInput{}).Deny, c.deny)
		want(t, c.name+": down and too long", admit(v, &long).Code, hostabi.PolicyFailed)
		g.down.Store(false)
		g.busy[hostabi.Admit].Store(1)
		want(t, c.name+": busy", admit(v, &hostabi.AdmitInput{}).Code, hostabi.PolicyFailed)
		g.trap[hostabi.Admit].Store(true)
		want(t, c.name, admit(v, &hostabi.AdmitInput{}).Deny, c.deny)
		want(t, c.name+": counted", r.counted(t, hostabi.Admit, "trap"), 1)
		g.trap[hostabi.Admit].Store(false)
		want(t, c.name+": healed", admit(v, &hostabi.AdmitInput{}).Deny, false)
	}
}

func TestFraming(t *testing.T) {
	result := ok
	g := whole()
	g.framing = func(in *hostabi.FramingInput) (hostabi.FramingOutput, hostabi.Result) {
		if len(in.Headers) > 0 && in.Headers[0].Value == "5" {
			return hostabi.FramingOutput{Client: hostabi.FramedV1, MaxFrameSize: 9}, result
		}
		return hostabi.FramingOutput{}, noView
	}
	r := start(t, g)
	v := r.View("r")
	framed := hostabi.FramingOutput{Client: hostabi.FramedV1, MaxFrameSize: 9}
	five := hostabi.FramingInput{Path: "/s", Headers: []hostabi.Header{{Name: "x-version", Value: "5"}}}
	asked := func() int64 { return g.calls[hostabi.FramingHook].Swap(0) }
	want(t, "framed", v.Framing(nil, &five), framed)
	want(t, "again", v.Framing(nil, &five), framed)
	want(t, "calls", asked(), 1)
	want(t, "raw", v.Framing(nil, &hostabi.FramingInput{Path: "/s"}), hostabi.FramingOutput{})
	want(t, "calls", asked(), 1)

	result = forSeconds(0)
	five.Path = "/uncached"
	v.Framing(nil, &five)
	v.Framing(nil, &five)
	want(t, "calls uncached", asked(), 2)

	five.Path = "/" + strings.Repeat("long", 1000)
	result = ok
	v.Framing(nil, &five)
	v.Framing(nil, &five)
	want(t, "calls for a long input", asked(), 2)

	g.trap[hostabi.FramingHook].Store(true)
	five.Path = "/t"
	want(t, "fallback", v.Framing(nil, &five), hostabi.FramingOutput{})
	v.Framing(nil, &five)
	want(t, "calls while it fails", asked(), 1)
	g.trap[hostabi.FramingHook].Store(false)
	r.time.advance(faultTTL)
	want(t, "healed", v.Framing(nil, &five), framed)

	for i := range 10 * memoSize {
		v.Framing(nil, &hostabi.FramingInput{Path: fmt.Sprint(i)})
	}
	want(t, "kept", len(v.framings.m), memoSize)
}

func TestFaultClasses(t *testing.T) {
	g := whole()
	g.fault = func(in *hostabi.FaultInput) (hostabi.FaultOutput, hostabi.Result) {
		if in.Code == hostabi.PayloadTooLarge {
			want(t, "status", in.Status, 413)
			return hostabi.FaultOutput{Retryable: true, RetryAfterMS: 250}, ok
		}
		if in.Code == hostabi.InboxFull {
			return hostabi.FaultOutput{RetryAfterMS: 250}, forSeconds(0) // there is no time for what cannot be retried
		}
		return hostabi.FaultOutput{}, noView
	}
	r := start(t, g)
	v := r.View("r")
	calls := g.calls[hostabi.FaultHook].Load()
	for range 5 {
		want(t, "the policy's", v.Fault(hostabi.PayloadTooLarge), Fault{true, 250 * time.Millisecond})
		want(t, "the policy's, uncached", v.Fault(hostabi.InboxFull), Fault{})
		want(t, "the catalogue's", v.Fault(hostabi.RateLimited), Fault{Retryable: true})
	}
	want(t, "calls", g.calls[hostabi.FaultHook].Load(), calls)
	r.time.advance(faultTTL)
	held := make(chan struct{})
	g.hold.Store(&held)
	want(t, "the policy's, out of date", v.Fault(hostabi.InboxFull), Fault{}) // and does not wait for the guest
	v.Fault(hostabi.PayloadTooLarge)
	close(held)
	r.behind.Wait()
	want(t, "calls after a second", g.calls[hostabi.FaultHook].Load(), calls+1)
}

func TestUpstreamFaults(t *testing.T) {
	g := whole()
	g.fault = func(in *hostabi.FaultInput) (hostabi.FaultOutput, hostabi.Result) {
		switch {
		case len(in.Body) > maxFaultBody:
			return hostabi.FaultOutput{}, hostabi.MakeResult(0, hostabi.StatusBadInput, 0)
		case strings.HasPrefix(in.ErrorType, "KMS"):
			return hostabi.FaultOutput{}, ok
		case in.ErrorType == "InvalidParameterValueException": // depends on the body
			return hostabi.FaultOutput{Retryable: strings.Contains(string(in.Body), "Invalid Checkpoint Token")}, forSeconds(0)
		}
		return hostabi.FaultOutput{}, noView
	}
	r := start(t, g)
	v := r.View("r")
	ask := func(status uint16, kind, body string) Fault {
		return v.UpstreamFault(&hostabi.FaultInput{Status: status, ErrorType: kind, Body: []byte(body)})
	}
	asked := func() int64 { return g.calls[hostabi.FaultHook].Swap(0) }
	asked()
	permanent, retryable := Fault{}, Fault{Retryable: true}
	want(t, "KMS at 502", ask(502, "KMSDisabledException", ""), permanent)
	want(t, "KMS again", ask(502, "KMSDisabledException", strings.Repeat("b", 5000)), permanent)
	want(t, "calls", asked(), 1)
	want(t, "token", ask(400, "InvalidParameterValueException", "Invalid Checkpoint Token x"), retryable)
	want(t, "other", ask(400, "InvalidParameterValueException", "size"), permanent)
	want(t, "calls", asked(), 2)
	want(t, "503", ask(503, "", ""), retryable)
	want(t, "429", ask(429, "", strings.Repeat("b", 5000)), retryable)
	want(t, "404", ask(404, "", ""), permanent)
	want(t, "no answer", v.UpstreamFault(&hostabi.FaultInput{Code: hostabi.UpstreamTimeout, Status: 504}), retryable)
	asked()
	long := strings.Repeat("KMS", 100)
	ask(502, long, "")
	ask(502, long, "")
	want(t, "calls for a long error type", asked(), 2)
	for i := range 10 * memoSize {
		ask(500, fmt.Sprint("KMS", i), "")
	}
	want(t, "kept", len(v.upstream.m), memoSize)
}

func TestFaultFallsBackToRetryableLaterAndLater(t *testing.T) {
	g := whole()
	r := start(t, g)
	v := r.View("r")
	g.trap[hostabi.FaultHook].Store(true)
	for i, after := range []time.Duration{1, 2, 4, 8, 16, 30, 30, 30} {
		got := v.UpstreamFault(&hostabi.FaultInput{Status: uint16(400 + i)})
		want(t, fmt.Sprint("failure ", i), got, Fault{true, after * time.Second})
		want(t, "within a second", v.UpstreamFault(&hostabi.FaultInput{Status: uint16(400 + i)}), got)
	}
	want(t, "calls", r.counted(t, hostabi.FaultHook, "trap"), 8)
	g.trap[hostabi.FaultHook].Store(false)
	r.time.advance(faultTTL)
	want(t, "healed", v.UpstreamFault(&hostabi.FaultInput{Status: 400}), Fault{})
	g.trap[hostabi.FaultHook].Store(true)
	want(t, "from the start", v.UpstreamFault(&hostabi.FaultInput{Status: 499}), Fault{true, time.Second})
}

func TestInfo(t *testing.T) {
	g := droppables(ok)
	r := start(t, g)
	r.View("r").Rule(hostabi.ToUpstream, []byte("a"), nil)
	g.raw[hostabi.Classify] = []byte{1}
	r.View("r").Rule(hostabi.ToUpstream, []byte("b"), nil)
	want(t, "info", r.Info(), Info{
		Hash: "hash", Engine: "fake", Instances: 2, Calls: 2, Faults: 1, Breaker: "closed", CachedRules: 2,
	})
}

// Failures are counted for as long as a process runs.
func TestBackoffOutlastsEveryCount(t *testing.T) {
	r := start(t, &fakeGuest{fault: func(*hostabi.FaultInput) (hostabi.FaultOutput, hostabi.Result) { return hostabi.FaultOutput{}, ok }})
	r.g.trap[hostabi.FaultHook].Store(true)
	r.streak.Store(math.MaxInt32)
	long := strings.Repeat("t", maxErrorType+1) // which no answer is cached by
	for range 2 {
		f := r.View("r").UpstreamFault(&hostabi.FaultInput{Status: 503, ErrorType: long})
		want(t, "class", f, Fault{Retryable: true, RetryAfter: backoffMax})
	}
}
