//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// iii is the dialect of iii in the standard policy's own words: an oversize
// call is answered to its caller, an oversize result in its place.
const iii = `event_key = "/type"
error_format = { websocket = '''{"type":"invocationresult","invocation_id":{{field:/invocation_id}}{{?field:/function_id}},"error":{"code":"invocation_failed_payload_too_large","message":{{message}}}}''' }`

// result is a frame of iii.
type result struct {
	Type         string
	InvocationID string `json:"invocation_id"`
	FunctionID   string `json:"function_id"`
	Result       any
	Error        *struct{ Code, Message string }
}

func decodeResult(t *testing.T, text string) (r result) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%.300q: %v", text, err)
	}
	return r
}

const mib = 1 << 20

// Without a gateway one 20 MiB call closes the worker's socket and an innocent
// call in flight waits out its timeout.
func TestAnOversizeCallHurtsNobodyElse(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(nil)
	g := start(t, settings{urls: s.url, policy: iii})
	worker, engine := n.pair(g, s, nil)
	bystander, other := n.pair(g, s, nil)

	call := func(id string) string {
		return `{"type":"invokefunction","invocation_id":"` + id + `","function_id":"f","data":"`
	}
	answer := func(id string) string {
		return `{"type":"invocationresult","invocation_id":"` + id + `","function_id":"f","result":1}`
	}
	worker.send(call("innocent") + `"}`)
	if r := decodeResult(t, engine.message()); r.InvocationID != "innocent" {
		t.Fatalf("%+v", r)
	}
	worker.sendSized(call("big"), 20*mib, `"}`)
	r := decodeResult(t, worker.message())
	if r.Type != "invocationresult" || r.InvocationID != "big" || r.FunctionID != "f" || r.Error == nil || r.Error.Code != "invocation_failed_payload_too_large" {
		t.Errorf("the caller was told %+v", r)
	}
	if r.Error != nil && r.Error.Message != "message of 20971520 bytes exceeds max_message_size 16777216" {
		t.Errorf("in the words %q", r.Error.Message)
	}
	// The call in flight is answered, the tunnel lives on, the next call passes.
	engine.send(answer("innocent"))
	if r := decodeResult(t, worker.message()); r.InvocationID != "innocent" || r.Error != nil {
		t.Errorf("the innocent call got %+v", r)
	}
	worker.send(call("next") + `"}`)
	if r := decodeResult(t, engine.message()); r.InvocationID != "next" {
		t.Errorf("engine got %+v: something of the refused call was forwarded", r)
	}
	// A call of exactly the ceiling passes, one byte more does not.
	worker.sendSized(call("exact"), 16*mib, `"}`)
	if e := engine.next("message"); e.Size != 16*mib {
		t.Errorf("engine got %d bytes", e.Size)
	}
	worker.sendSized(call("one more"), 16*mib+1, `"}`)
	if r := decodeResult(t, worker.message()); r.InvocationID != "one more" {
		t.Errorf("%+v", r)
	}
	bystander.send("hello")
	if got := other.message(); got != "hello" {
		t.Errorf("another tunnel got %q", got)
	}
	if n := g.metric(`weir_faults_total{code="payload_too_large"}`); n != 2 {
		t.Errorf("counted %v faults", n)
	}
	if n := g.metric(`weir_messages_dropped_total{reason="oversize"}`); n != 2 {
		t.Errorf("counted %v dropped", n)
	}
	g.logs.wait("the refusal", "msg=refused", "code=payload_too_large", "direction=to_upstream", "limit=16777216", "actual=20971520", "event_key=invokefunction")
	for _, p := range []*peer{worker, engine, bystander, other} {
		p.quiet()
	}
}

// A result that is too large is replaced on its way to the caller, or told to
// whoever sent it, as the policy says.
func TestAnOversizeResult(t *testing.T) {
	t.Parallel()
	big := `{"type":"invocationresult","invocation_id":"i","function_id":"f","result":"`
	for name, c := range map[string]struct {
		more string
		told func(client, upstream *peer) *peer
	}{
		"to the sender":   {"", func(_, upstream *peer) *peer { return upstream }},
		"to the receiver": {"\nerror_to = { payload_too_large = \"receiver\" }", func(client, _ *peer) *peer { return client }},
	} {
		n := startNode(t)
		s := n.serve(nil)
		g := start(t, settings{urls: s.url, policy: iii + c.more, limits: `max_message_size = "64KiB"`})
		client, upstream := n.pair(g, s, nil)
		upstream.send("before")
		upstream.sendSized(big, 100_000, `"}`)
		upstream.send("after")
		if got := client.message(); got != "before" {
			t.Errorf("%s: %q", name, got)
		}
		r := decodeResult(t, c.told(client, upstream).message())
		if r.InvocationID != "i" || r.Error == nil || r.Error.Message != "message of 100000 bytes exceeds max_message_size 65536" {
			t.Errorf("%s: %+v", name, r)
		}
		if got := client.message(); got != "after" {
			t.Errorf("%s: %q", name, got)
		}
		client.quiet()
		upstream.quiet()
	}
}

func TestNobodyIsTold(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(args{"echo": true})
	g := start(t, settings{urls: s.url, policy: `error_to = { payload_too_large = "nobody" }`, limits: `max_message_size = "1KiB"`})
	c := n.dial(g.ws("/"), nil)
	c.sendSized("", 2000, "")
	c.send("after")
	if got := c.message(); got != "after" {
		t.Errorf("%q", got)
	}
	if n := g.metric(`weir_faults_total{code="payload_too_large"}`); n != 1 {
		t.Errorf("counted %v", n)
	}
}

// Without a policy there is Weir's own envelope. Fragments are summed, and what
// is under the ceiling passes between refusals.
func TestFragmentsAreSummed(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(args{"echo": true})
	g := start(t, settings{urls: s.url, native: true, limits: `max_message_size = 1000`})
	c := n.dial(g.ws("/"), nil)
	part := strings.Repeat("x", 400)
	for range 3 {
		c.do("fragments", args{"parts": []string{part, part, part}})
		e := decodeError(t, c.message())
		if e.Error.Code != "payload_too_large" || e.Error.Retryable || e.Error.Limit != 1000 || e.Error.Actual != 1200 || len(e.Error.TraceID) != 32 {
			t.Errorf("%+v", e)
		}
		c.do("fragments", args{"parts": []string{part, part, "x"}})
		if m := c.next("message"); m.Size != 801 {
			t.Errorf("%d bytes came back", m.Size)
		}
	}
	// A refused message is over at its end, whatever comes between, and is
	// answered there.
	c.do("fragment", args{"text": part + part + part})
	c.do("ping", args{"text": "still there?"})
	c.next("pong")
	c.do("fragment", args{"text": part})
	c.do("fragment", args{"text": "", "fin": true})
	if e := decodeError(t, c.message()); e.Error.Code != "payload_too_large" {
		t.Errorf("%+v", e)
	}
	c.send("after")
	if got := c.message(); got != "after" {
		t.Errorf("%q", got)
	}
}

// A policy may allow less to some kinds of messages.
func TestACeilingOfOneKind(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(args{"echo": true})
	g := start(t, settings{urls: s.url, policy: `max_size = { note = 100, "chat.*" = "1KiB" }`})
	c := n.dial(g.ws("/"), nil)
	f := func(kind string, size int, passes bool) {
		t.Helper()
		prefix := fmt.Sprintf(`{"type":%q,"pad":"`, kind)
		c.sendSized(prefix, size, `"}`)
		if m := c.next("message"); passes != (m.Size == size && strings.HasPrefix(m.Text, prefix)) {
			t.Errorf("%s of %d bytes: %.200q", kind, size, m.Text)
		}
	}
	f("note", 100, true)
	f("note", 101, false)
	f("chat.a", 1024, true)
	f("chat.b", 1025, false)
	f("other", 100_000, true)
	f("note", 100_000, false)
}
