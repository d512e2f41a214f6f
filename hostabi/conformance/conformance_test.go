package conformance

import (
	"fmt"
	"strings"
	"testing"

	"weir/hostabi"
	"weir/hostabi/wasmhost"
)

func TestBrokenPoliciesAreFound(t *testing.T) {
	t.Parallel()
	wasm := BuildGo(t, "./testdata/broken")
	f := func(how, want string) {
		t.Helper()
		breaches := Check(t.Context(), wasmhost.Interpreter, wasm, []byte(how))
		if want == "" && len(breaches) == 0 {
			return
		}
		for _, err := range breaches {
			if want != "" && strings.Contains(err.Error(), want) {
				return
			}
		}
		t.Errorf("%s: %v, want %q", how, breaches, want)
	}
	f("well behaved", "")
	f("impure", "not pure")
	f("pointer", `Unless "seq" is not a pointer`)
	f("constant", "though the shape calls the hook constant")
	f("trap", "trap")
	f("slow", "a call takes")
	f("leak", "memory grows by")
	f("long", "output of 9004 bytes exceeds 8192")
	f("slot", "unknown slot {{nothing}}")
	f("open", "is not closed")
	f("json", "is not closed")
	f("field", `does not keep "/id"`)
	f("optional", "not JSON")
	if breaches := Check(t.Context(), wasmhost.Interpreter, wasm[:100], nil); len(breaches) != 1 {
		t.Errorf("a module cut off: %v", breaches)
	}
}

// The host takes an envelope that it must be able to send, and no other.
func TestEnvelopesAreJudgedAsTheHostDoes(t *testing.T) {
	for _, c := range []struct {
		over hostabi.Transport
		out  hostabi.ErrorOutput
		want string
	}{
		{hostabi.WebSocket, hostabi.ErrorOutput{Template: "ERR {{code}}"}, ""},
		{hostabi.WebSocket, hostabi.ErrorOutput{Template: "{ERR {{code}}"}, "not JSON"},
		{hostabi.WebSocket, hostabi.ErrorOutput{Template: "{ERR {{code}}", Binary: true}, ""},
		{hostabi.WebSocket, hostabi.ErrorOutput{Template: "ERR {{code}}", ContentType: "application/json"}, "not JSON"},
		{hostabi.HTTP, hostabi.ErrorOutput{Template: "ERR {{code}}"}, "not JSON"},
		{hostabi.HTTP, hostabi.ErrorOutput{Template: "ERR {{code}}", Binary: true}, "not JSON"},
		{hostabi.HTTP, hostabi.ErrorOutput{Template: "ERR {{code}}", ContentType: "text/plain; charset=utf-8"}, ""},
		{hostabi.HTTP, hostabi.ErrorOutput{Status: 304}, "status 304"},
		{hostabi.HTTP, hostabi.ErrorOutput{Status: 600}, "status 600"},
		{hostabi.HTTP, hostabi.ErrorOutput{Status: 200, Close: 4999}, ""},
		{hostabi.WebSocket, hostabi.ErrorOutput{Close: 1006}, "close code 1006"},
		{hostabi.WebSocket, hostabi.ErrorOutput{Close: 1015}, "close code 1015"},
	} {
		err := validEnvelope(&hostabi.ErrorInput{Transport: c.over}, &c.out, &hostabi.Shape{})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c, err, c.want)
		}
	}
}

func TestStandardPolicyConforms(t *testing.T) {
	t.Parallel()
	wasm := BuildGo(t, "weir/plugins/standard")
	Run(t, wasm, []byte("{}"))
	Run(t, wasm, []byte(`{
		"event_key":["/type","/action"],"droppable":["presence*","typing"],"droppable_unless":"/seq","conflate":{"cursor":"/user"},
		"priority":{"typing":3},"max_size":{"*":"64KiB"},
		"admit":{"default":"deny","rules":[{"deny":true,"query":"debug"},{"allow":true,"header":"x-api-version","one_of":["1","2"]}]},
		"framing":{"header":"x-workflow-version","range":">=4.6.0 <5.0.0-0 || >=5.0.0-beta.15","upstream":"framed-v1"},
		"permanent":["5xx"],"retryable":[503],"retry_after":{"503":"1s"},
		"error_format":{"http":"{\"c\":{{code}}}","websocket":"{\"id\":{{field:/id}}{{?field:/a/b}}}"},
		"error_to":{"payload_too_large":"receiver","draining":"nobody"},"gap_notice":true}`))
}

// A table of many kinds is read in the time that a guest has for it: where each key was
// compared with all others, a thousand were not.
func TestStandardPolicyReadsManyKinds(t *testing.T) {
	t.Parallel()
	table := []byte(`{"priority":{"kind":1`)
	for i := range 1500 {
		table = fmt.Appendf(table, `,"kind-%d":%d`, i, 1+i%255)
	}
	m, err := wasmhost.Load(t.Context(), wasmhost.Options{
		Name: "standard", Wasm: BuildGo(t, "weir/plugins/standard"), Rehearse: rehearse,
		Configure: (&hostabi.ConfigureInput{Policy: "standard", Config: append(table, "}}"...), HostMinor: hostabi.Minor}).AppendTo(nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
}
