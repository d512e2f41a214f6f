package policy

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"weir/hostabi"
)

// errorsWith is a guest that answers every error the same.
func errorsWith(out hostabi.ErrorOutput) *fakeGuest {
	return &fakeGuest{envelope: func(*hostabi.ErrorInput) (hostabi.ErrorOutput, hostabi.Result) { return out, ok }}
}

func TestEnvelopeOfThePolicy(t *testing.T) {
	g := &fakeGuest{
		shape: hostabi.Shape{Keep: []string{"/id"}},
		envelope: func(in *hostabi.ErrorInput) (hostabi.ErrorOutput, hostabi.Result) {
			switch {
			case in.Transport == hostabi.HTTP:
				return hostabi.ErrorOutput{}, noView
			case in.Code == hostabi.Gap:
				return hostabi.ErrorOutput{Template: `{"gap":{{count}}}`}, ok
			case in.Code == hostabi.SlowConsumer:
				return hostabi.ErrorOutput{Recipient: hostabi.ToNobody, Close: 4001}, ok
			case in.Direction == hostabi.ToClient:
				return hostabi.ErrorOutput{Template: `{"r":{{field:/id}},"c":{{code}}}`, Recipient: hostabi.ToReceiver}, ok
			}
			return hostabi.ErrorOutput{Template: "ERR {{code}}", ContentType: "text/plain", Binary: true}, ok
		},
	}
	v := start(t, g).View("chat")
	calls := g.calls[hostabi.ErrorHook].Load()
	values := Values{Limit: 1, Actual: -1, Count: 7, Fields: [][]byte{[]byte("5")}}
	for _, c := range []struct {
		code      hostabi.FaultCode
		transport hostabi.Transport
		direction hostabi.Direction
		recipient hostabi.Recipient
		close     uint16
		fills     string
	}{
		{hostabi.Gap, hostabi.WebSocket, hostabi.ToClient, hostabi.ToSender, 0, `{"gap":7}`},
		{hostabi.SlowConsumer, hostabi.WebSocket, hostabi.ToClient, hostabi.ToNobody, 4001, `{"type":"error","error":{"code":"slow_consumer","message":"The peer reads too slowly.","retryable":false,"limit":1}}`},
		{hostabi.InboxFull, hostabi.WebSocket, hostabi.ToClient, hostabi.ToReceiver, 0, `{"r":5,"c":"inbox_full"}`},
		{hostabi.InboxFull, hostabi.WebSocket, hostabi.ToUpstream, hostabi.ToSender, 0, `ERR "inbox_full"`},
		{hostabi.NoRoute, hostabi.HTTP, hostabi.ToUpstream, hostabi.ToSender, 0, `{"type":"about:blank","title":"No route matches the request.","status":404,"detail":"No route matches the request.","code":"no_route","retryable":false,"limit":1}`},
		{"a_later_code", hostabi.WebSocket, hostabi.ToUpstream, hostabi.ToSender, 1011, `ERR "policy_failed"`},
	} {
		e := v.Envelope(c.code, c.transport, c.direction)
		name := string(c.code)
		want(t, name+" fills", string(e.Append(nil, &values)), c.fills)
		want(t, name+" recipient", e.Recipient, c.recipient)
		want(t, name+" close", e.Close, c.close)
	}
	want(t, "guest calls for envelopes that are at hand", g.calls[hostabi.ErrorHook].Load(), calls)
	if v.Envelope(hostabi.Gap, hostabi.HTTP, hostabi.ToUpstream) != nil {
		t.Error("a gap over HTTP has an envelope")
	}
}

func TestBuiltInEnvelopes(t *testing.T) {
	for _, v := range []*View{(*Policy)(nil).View("r"), start(t, &fakeGuest{}).View("r")} {
		for _, row := range hostabi.Catalogue {
			for _, tr := range []hostabi.Transport{hostabi.HTTP, hostabi.WebSocket} {
				e := v.Envelope(row.Code, tr, hostabi.ToClient)
				got := e.Append(nil, &Values{Message: "m", Limit: 1, Actual: 2, RetryAfterMS: 3, TraceID: "t"})
				if !json.Valid(got) {
					t.Errorf("%s: %s", row.Code, got)
				}
				want(t, "status", e.Status, row.Status)
				want(t, "close", e.Close, row.Close)
				want(t, "recipient", e.Recipient, hostabi.ToSender)
			}
		}
		want(t, "content type", v.Envelope(hostabi.NoRoute, hostabi.HTTP, 0).ContentType, hostabi.ProblemType)
		if e := v.Envelope(hostabi.Gap, hostabi.WebSocket, hostabi.ToClient); e != nil {
			t.Errorf("a gap is told natively: %v", e)
		}
	}
}

func TestLoadRefusesEnvelopes(t *testing.T) {
	for _, c := range []struct {
		name string
		out  hostabi.ErrorOutput
		says string
	}{
		{"unknown slot", hostabi.ErrorOutput{Template: "{{x}}"}, "unknown slot {{x}}"},
		{"field not kept", hostabi.ErrorOutput{Template: "{{field:/x}}"}, "not kept"},
		{"not JSON", hostabi.ErrorOutput{Template: `{"a":}`}, "not JSON with every slot filled"},
		{"not JSON without optionals", hostabi.ErrorOutput{Template: `{"a":1 {{?limit}}.0}`}, "not JSON with every optional slot absent"},
		{"not JSON with a limit of 0", hostabi.ErrorOutput{Template: `{"a":1{{?limit}}1}`}, "not JSON with every slot filled"},
		{"slot in a string", hostabi.ErrorOutput{Template: `{"a":"{{code}}"}`, ContentType: "application/vnd.x+json"}, "not JSON"},
		{"status without a body", hostabi.ErrorOutput{Template: "{}", Status: 204}, "status 204"},
		{"status of what is at hand", hostabi.ErrorOutput{Template: "{}", Status: 304}, "status 304"},
		{"informational status", hostabi.ErrorOutput{Template: "{}", Status: 101}, "status 101"},
		{"close code not sendable", hostabi.ErrorOutput{Template: "{}", Close: 1006}, "close code 1006"},
		{"close code without a meaning", hostabi.ErrorOutput{Template: "{}", Close: 1004}, "close code 1004"},
		{"content type that splits the head", hostabi.ErrorOutput{Template: "{}", ContentType: "a/b;c=\"x\r\ny\""}, "media type"},
		{"content type", hostabi.ErrorOutput{Template: "{}", ContentType: "///"}, "media type"},
		{"content type without a subtype", hostabi.ErrorOutput{Template: "x", ContentType: "text"}, "media type"},
		{"disposition for a content type", hostabi.ErrorOutput{Template: "x", ContentType: "attachment; a=b"}, "media type"},
		{"JSON that is not UTF-8", hostabi.ErrorOutput{Template: "\"\xff\"", Binary: true}, "not JSON"},
		{"not UTF-8", hostabi.ErrorOutput{Template: "\xff", ContentType: "text/plain"}, "UTF-8"},
	} {
		g := errorsWith(c.out)
		_, err := tryStart(t, g)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v does not say %q", c.name, err, c.says)
			continue
		}
		for _, part := range []string{`policy "p"`, "hook error", "payload_too_large", "over HTTP"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error %v does not name %q", c.name, err, part)
			}
		}
		want(t, c.name+": guest closed", g.closed.Load(), true)
	}
}

// A policy may answer all alike: over HTTP there is one to tell, and what it leaves
// out is native.
func TestEnvelopesOfAConstantAnswer(t *testing.T) {
	for _, r := range []hostabi.Recipient{hostabi.ToSender, hostabi.ToReceiver, hostabi.ToNobody} {
		v := start(t, errorsWith(hostabi.ErrorOutput{Status: 503, Close: 4000, Recipient: r})).View("r")
		for _, row := range hostabi.Catalogue {
			over := [2]*Envelope{}
			for tr := range over {
				e := v.Envelope(row.Code, hostabi.Transport(tr), hostabi.ToClient)
				native := builtin(row.Code, hostabi.Transport(tr))
				want(t, "body", string(e.Append(nil, &Values{Message: "m"})), string(native.Append(nil, &Values{Message: "m", Status: 503})))
				want(t, "close", e.Close, 4000)
				over[tr] = e
			}
			want(t, "status", over[hostabi.HTTP].Status, 503)
			want(t, "recipient over HTTP", over[hostabi.HTTP].Recipient, hostabi.ToSender)
			want(t, "recipient", over[hostabi.WebSocket].Recipient, r)
		}
		want(t, "notice of a gap", v.Envelope(hostabi.Gap, hostabi.WebSocket, hostabi.ToClient) == nil, true)
	}
}

func TestTextThatIsNotJSONMayBeAnEnvelope(t *testing.T) {
	g := &fakeGuest{envelope: func(in *hostabi.ErrorInput) (hostabi.ErrorOutput, hostabi.Result) {
		if in.Transport == hostabi.HTTP {
			return hostabi.ErrorOutput{Template: "no: {{code}}", ContentType: "text/plain; charset=utf-8", Status: 400}, ok
		}
		return hostabi.ErrorOutput{Template: "NO {{code}}"}, ok
	}}
	v := start(t, g).View("r")
	e := v.Envelope(hostabi.RateLimited, hostabi.HTTP, hostabi.ToUpstream)
	want(t, "status", e.Status, 400)
	want(t, "body", string(e.Append(nil, &Values{})), `no: "rate_limited"`)
}

func TestEnvelopesFallBackAndHeal(t *testing.T) {
	g := errorsWith(hostabi.ErrorOutput{Template: `{"mine":{{code}}}`})
	r := start(t, g)
	g.trap[hostabi.ErrorHook].Store(true)
	v := r.View("r")
	none := absent()
	fills := func() string {
		return string(v.Envelope(hostabi.NoRoute, hostabi.HTTP, hostabi.ToUpstream).Append(nil, &none))
	}
	if !strings.Contains(fills(), "about:blank") {
		t.Errorf("no built-in envelope while the guest fails: %s", fills())
	}
	calls := g.calls[hostabi.ErrorHook].Load()
	fills()
	want(t, "calls within a second", g.calls[hostabi.ErrorHook].Load(), calls)
	g.trap[hostabi.ErrorHook].Store(false)
	r.time.advance(faultTTL)
	held := make(chan struct{})
	g.hold.Store(&held)
	if !strings.Contains(fills(), "about:blank") { // and does not wait for the guest
		t.Error("it is there before the guest has answered")
	}
	close(held)
	r.behind.Wait()
	want(t, "healed", fills(), `{"mine":"no_route"}`)
	want(t, "calls", g.calls[hostabi.ErrorHook].Load(), calls+1)
	r.time.advance(1000 * faultTTL)
	fills()
	want(t, "calls later", g.calls[hostabi.ErrorHook].Load(), calls+1)
}

// A guest whose templates are never the same, and never allowed, is asked again each
// second: nothing is kept of them.
func TestTemplatesThatChangeAreForgotten(t *testing.T) {
	var n atomic.Int64
	bad := false
	g := &fakeGuest{envelope: func(*hostabi.ErrorInput) (hostabi.ErrorOutput, hostabi.Result) {
		out := hostabi.ErrorOutput{Template: fmt.Sprintf(`{"n":%d}`, n.Add(1))}
		if bad {
			out.Close = 1005
		}
		return out, ok
	}}
	r := start(t, g)
	bad = true
	v := r.View("r")
	for range 10 * maxTemplates {
		r.time.advance(faultTTL)
		v.Envelope(hostabi.NoRoute, hostabi.HTTP, hostabi.ToUpstream)
		r.behind.Wait()
	}
	if len(r.templates) > maxTemplates {
		t.Errorf("%d templates are kept, at most %d may be", len(r.templates), maxTemplates)
	}
}

// A bug in what nobody waits for ends nothing, and is tried again.
func TestAPanicBesideIsContained(t *testing.T) {
	g := errorsWith(hostabi.ErrorOutput{Template: `{"mine":{{code}}}`})
	r := start(t, g)
	g.trap[hostabi.ErrorHook].Store(true)
	v := r.View("r")
	g.trap[hostabi.ErrorHook].Store(false)
	good := g.envelope
	g.envelope = func(*hostabi.ErrorInput) (hostabi.ErrorOutput, hostabi.Result) { panic("made to") }
	none := absent()
	mine := func() bool {
		e := v.Envelope(hostabi.NoRoute, hostabi.HTTP, hostabi.ToUpstream)
		r.behind.Wait()
		return strings.Contains(string(e.Append(nil, &none)), "mine")
	}
	r.time.advance(faultTTL)
	mine()
	want(t, "panics in the log", strings.Count(r.log.all(), `"panic":"made to"`), 1)
	g.envelope = good
	r.time.advance(faultTTL)
	mine()
	want(t, "healed", mine(), true)
}

// Who repeats a slot in a template gets no more than a bound makes of it.
func TestALongEnvelopeLeavesOutWhatMakesItLong(t *testing.T) {
	const each = `{{message}}{{key}}{{field:/id}}`
	g := errorsWith(hostabi.ErrorOutput{Template: strings.Repeat(each, hostabi.MaxTemplate/len(each)), ContentType: "text/plain"})
	g.shape = hostabi.Shape{Keep: []string{"/id"}}
	e := start(t, g).View("r").Envelope(hostabi.NotAdmitted, hostabi.HTTP, hostabi.ToUpstream)
	long := Values{Message: strings.Repeat("\x01", hostabi.MaxOutput), Key: []byte(strings.Repeat("k", hostabi.MaxEventKey)), Fields: [][]byte{[]byte(`"` + strings.Repeat("f", 4000) + `"`)}}
	want(t, "long", string(e.Append([]byte("before"), &long)), "before"+string(e.Append(nil, &Values{})))
	none := Values{Message: "m", Key: []byte("k"), Fields: [][]byte{[]byte(`"f"`)}}
	want(t, "short", string(e.Append(nil, &none)), strings.Repeat(`"m""k""f"`, hostabi.MaxTemplate/len(each)))
}

func TestAppendAllocatesNothing(t *testing.T) {
	v := (*Policy)(nil).View("r")
	e := v.Envelope(hostabi.PayloadTooLarge, hostabi.WebSocket, hostabi.ToUpstream)
	values := Values{Message: "message of 20971520 bytes exceeds \"max_message_size\" 16777216 €\xff", Limit: 1, Actual: 2, TraceID: "t", Key: []byte("a\xffb€")}
	dst := make([]byte, 0, 4096)
	want(t, "allocations", testing.AllocsPerRun(100, func() {
		dst = e.Append(dst[:0], &values)
		e = v.Envelope(hostabi.PayloadTooLarge, hostabi.WebSocket, hostabi.ToUpstream)
	}), 0)
	policy := start(t, errorsWith(hostabi.ErrorOutput{Template: `{"k":{{key}},"f":{{field:/id}}}`}).keeping("/id")).View("r")
	values.Fields = [][]byte{[]byte(`"x"`)}
	want(t, "allocations of a policy's", testing.AllocsPerRun(100, func() {
		dst = policy.Envelope(hostabi.PayloadTooLarge, hostabi.WebSocket, hostabi.ToUpstream).Append(dst[:0], &values)
	}), 0)
}

// keeping sets the shape's keep list.
func (g *fakeGuest) keeping(pointers ...string) *fakeGuest {
	g.shape.Keep = pointers
	return g
}

func BenchmarkEnvelopeAppend(b *testing.B) {
	e := (*Policy)(nil).View("r").Envelope(hostabi.PayloadTooLarge, hostabi.WebSocket, hostabi.ToUpstream)
	values := Values{Message: "message of 20971520 bytes exceeds max_message_size 16777216", Limit: 16777216, Actual: 20971520, TraceID: "0af7651916cd43dd8448eb211c80319c"}
	dst := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		dst = e.Append(dst[:0], &values)
	}
}

// What only a WebSocket's envelope says is held to the same.
func TestLoadRefusesStatusesOfWebSockets(t *testing.T) {
	for _, status := range []uint16{101, 199, 204, 600} {
		g := &fakeGuest{envelope: func(in *hostabi.ErrorInput) (hostabi.ErrorOutput, hostabi.Result) {
			if in.Transport == hostabi.HTTP {
				return hostabi.ErrorOutput{}, noView
			}
			return hostabi.ErrorOutput{Status: status}, ok
		}}
		if _, err := tryStart(t, g); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("status %d", status)) {
			t.Errorf("status %d: %v", status, err)
		}
	}
}
