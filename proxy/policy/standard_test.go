package policy

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/hostabi"
	"weir/hostabi/conformance"
	"weir/hostabi/wasmhost"
	"weir/proxy/config"
	"weir/proxy/metrics"
)

// TestStandardPolicy drives the module that ships through everything this
// package asks of a policy.
func TestStandardPolicy(t *testing.T) {
	wasm := conformance.BuildGo(t, "weir/plugins/standard")
	options := func(table map[string]any) Options {
		return Options{
			Config: config.Policy{Name: "standard", Bytes: wasm, Engine: wasmhost.Interpreter, Config: table},
			Log:    slog.New(slog.NewTextHandler(t.Output(), nil)), Metrics: metrics.New("test"),
			CallTimeout: time.Second, InitTimeout: time.Minute,
		}
	}
	p, err := Load(t.Context(), options(map[string]any{
		"event_key":        "/type",
		"droppable":        []any{"presence", "typing"},
		"droppable_unless": "/seq",
		"conflate":         map[string]any{"cursor": "/user"},
		"gap_notice":       true,
		"error_format":     map[string]any{"websocket": `{"type":"error","id":{{field:/id}},"code":{{code}}}`},
		"admit": map[string]any{"rules": []any{
			map[string]any{"deny": true, "header": "x-blocked", "message": "go away"},
		}},
		"framing": map[string]any{"header": "x-version", "range": ">=5.0.0"},
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	v := p.View("chat")

	key, _ := v.Key().Append(nil, []byte(`{"type":"presence"}`))
	rule := v.Rule(hostabi.ToClient, key, nil)
	want(t, "presence", rule.Class, hostabi.Droppable)
	want(t, "unless", rule.Unless.String(), "/seq")
	want(t, "cursor", v.Rule(hostabi.ToClient, []byte("cursor"), nil).Conflate.String(), "/user")
	calls := p.Info().Calls
	want(t, "prewarmed", v.Rule(hostabi.ToUpstream, []byte("typing"), nil).Class, hostabi.Droppable)
	want(t, "calls for it", p.Info().Calls, calls)
	want(t, "message", v.Rule(hostabi.ToUpstream, []byte("message"), nil).Class, hostabi.Critical)

	want(t, "keep", v.Keep()[0].String(), "/id")
	fill := func(c hostabi.FaultCode, tr hostabi.Transport, values Values) string {
		return string(v.Envelope(c, tr, hostabi.ToClient).Append(nil, &values))
	}
	want(t, "envelope", fill(hostabi.PayloadTooLarge, hostabi.WebSocket, Values{Fields: [][]byte{[]byte("7")}}),
		`{"type":"error","id":7,"code":"payload_too_large"}`)
	if got := fill(hostabi.Gap, hostabi.WebSocket, Values{Count: 12}); !strings.Contains(got, "12") {
		t.Errorf("gap notice: %s", got)
	}
	if got := fill(hostabi.NoRoute, hostabi.HTTP, absent()); !strings.Contains(got, `"code":"no_route"`) {
		t.Errorf("over HTTP: %s", got)
	}

	want(t, "admitted", admit(v, &hostabi.AdmitInput{}).Deny, false)
	blocked := admit(v, &hostabi.AdmitInput{Headers: []hostabi.Header{{Name: v.AdmitHeaders()[0], Value: "1"}}})
	want(t, "blocked", blocked, hostabi.AdmitOutput{Deny: true, Code: hostabi.NotAdmitted, Message: "go away"})

	framing := func(version string) hostabi.Framing {
		return v.Framing(nil, &hostabi.FramingInput{Headers: []hostabi.Header{{Name: v.FramingHeaders()[0], Value: version}}}).Client
	}
	want(t, "new client", framing("5.1.0"), hostabi.FramedV1)
	want(t, "old client", framing("4.9.0"), hostabi.Raw)

	want(t, "permanent", v.Fault(hostabi.PayloadTooLarge).Retryable, false)
	want(t, "retryable", v.Fault(hostabi.InboxFull).Retryable, true)
	want(t, "upstream's", v.UpstreamFault(&hostabi.FaultInput{Status: 503}).Retryable, true)

	info := p.Info()
	want(t, "faults", info.Faults, 0)
	want(t, "breaker", info.Breaker, "closed")
	want(t, "engine", info.Engine, wasmhost.Interpreter)

	if _, err = Load(t.Context(), options(map[string]any{"dropable": "x"})); err == nil || !strings.Contains(err.Error(), "dropable") {
		t.Errorf("an unknown key of the policy: %v", err)
	}
	quiet, err := Load(t.Context(), options(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer quiet.Close()
	want(t, "admit is asked for nothing", quiet.View("r").NeedsAdmit(), false)
	want(t, "framing is asked for nothing", quiet.View("r").NeedsFraming(), false)

	start := time.Now()
	p.View("another")
	t.Logf("a view takes %v, of %d calls", time.Since(start), p.Info().Calls-info.Calls)
}

// TestWhatClientsSendCannotMakeTheStandardPolicyLate holds that no head of a client takes
// the policy the time that a call has: it would be asked no more, for anybody.
func TestWhatClientsSendCannotMakeTheStandardPolicyLate(t *testing.T) {
	wasm := conformance.BuildGo(t, "weir/plugins/standard")
	var rules, values []any
	for i := range 100 {
		values = append(values, fmt.Sprintf("%064d", i))
	}
	for _, key := range []string{"query", "header"} {
		rules = append(rules, map[string]any{"allow": true, key: "authorization", "one_of": values})
		rules = append(rules, map[string]any{"allow": true, key: "authorization", "prefix": "Bearer "})
	}
	rules = append(rules, map[string]any{"allow": true, "query": strings.Repeat("n", 64)})
	for i := range 60 {
		for _, key := range []string{"query", "header"} {
			rules = append(rules, map[string]any{"allow": true, key: fmt.Sprintf("x-tenant-%d", i%20), "equals": values[i]})
		}
	}
	p, err := Load(t.Context(), Options{
		Config: config.Policy{Name: "standard", Bytes: wasm, Engine: wasmhost.Interpreter, OnFault: "open", Config: map[string]any{
			"admit":   map[string]any{"default": "deny", "rules": rules},
			"framing": map[string]any{"header": "x-version", "range": ">=4.6.0 <5.0.0-0 || >=5.0.0-beta.15"},
		}},
		CallTimeout: slower * 10 * time.Millisecond, // twice what it has: a busy machine takes part of it
		InitTimeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	v := p.View("chat")
	const most = 15 << 10 // of what is in a head
	var others []hostabi.Header
	for i := range 128 {
		others = append(others, hostabi.Header{Name: fmt.Sprintf("x-tenant-%d", i%20), Value: strings.Repeat("0", 63) + "x"})
	}
	part := "%61uthorizatio%6e=%30" + strings.Repeat("0", 62) + "%78"
	for name, in := range map[string]*hostabi.AdmitInput{
		"no parameters":        {Query: strings.Repeat("&", most)},
		"short ones":           {Query: strings.Repeat("a&", most/2)},
		"escapes":              {Query: strings.Repeat("%61", most/3)},
		"plus signs":           {Query: strings.Repeat(strings.Repeat("+", 63)+"&", 64)},
		"percent signs":        {Query: strings.Repeat(strings.Repeat("%", 63)+"&", 64)},
		"an escaped value":     {Query: "authorization=" + strings.Repeat("%30", most/3)},
		"64 that nearly match": {Query: strings.Repeat(part+strings.Repeat("%30", 40)+"&", 63) + part},
		"64 in 4 KiB":          {Query: strings.Repeat("%61uthorization=000000000000000000000000000000000000000000000000&", 63)},
		"16 that nearly match": {Query: strings.Repeat(part+"&", 15)},
		"a long header":        {Headers: []hostabi.Header{{Name: "authorization", Value: strings.Repeat("0", most)}}},
		"64 long names":        {Query: strings.Repeat("%61uthorizatio%6e%6e%6e%6e%6e%6e%6e%6e%6e%6e%6e%6e%6e%6e%6e&", 63)},
		"128 others":           {Headers: others},
		"128 headers":          {Headers: slices.Repeat([]hostabi.Header{{Name: "authorization", Value: strings.Repeat("0", 64)[:63] + "x"}}, 128)},
	} {
		if out := admit(v, in); !out.Deny || out.Code != hostabi.NotAdmitted {
			t.Errorf("%s: %+v", name, out)
		}
	}
	for _, version := range []string{"1.", "1-a.", "1.2.3-", "9", " ", "||"} {
		v.Framing(nil, &hostabi.FramingInput{Headers: []hostabi.Header{{Name: "x-version", Value: strings.Repeat(version, most/len(version))}}})
	}
	if n := p.Info().Faults; n != 0 {
		t.Errorf("%d calls failed", n)
	}
}
