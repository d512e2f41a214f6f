package main

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"weir/hostabi"
	"weir/plugins/sdk/go"
)

// configured applies a config table and returns the shape and the refusal.
func configured(t *testing.T, config string) (shape sdk.Shape, refusal string) {
	t.Helper()
	out, r := sdk.Call(hostabi.Configure, (&sdk.ConfigureInput{Policy: "standard", Config: []byte(config)}).AppendTo(nil))
	var no hostabi.Refusal
	var err error
	if r.Status() == hostabi.StatusOK {
		err = shape.Decode(out)
	} else {
		err = no.Decode(out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return shape, no.Message
}

// policy applies a config table that must be accepted.
func policy(t *testing.T, config string) sdk.Shape {
	t.Helper()
	shape, refusal := configured(t, config)
	if refusal != "" {
		t.Fatalf("%s: %s", config, refusal)
	}
	return shape
}

func ask(t *testing.T, h hostabi.Hook, in interface{ AppendTo([]byte) []byte }, out interface{ Decode([]byte) error }) hostabi.Result {
	t.Helper()
	b, r := sdk.Call(h, in.AppendTo(nil))
	if err := out.Decode(b); err != nil || r.Status() > hostabi.StatusNoOpinion {
		t.Fatalf("%s: %q, %#x, %v", h, b, uint64(r), err)
	}
	return r
}

func TestWithoutConfigurationNothingIsAsked(t *testing.T) {
	got := policy(t, "{}")
	want := sdk.Shape{
		EventKey: []string{"/type"},
		Constant: []hostabi.Hook{hostabi.Classify, hostabi.Admit, hostabi.FramingHook, hostabi.FaultHook, hostabi.ErrorHook},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	for h := hostabi.Classify; h < hostabi.NumHooks; h++ {
		if _, r := sdk.Call(h, nil); r.Status() != hostabi.StatusNoOpinion {
			t.Errorf("%s: status %d", h, r.Status())
		}
	}
}

func TestShapeFollowsTheConfiguration(t *testing.T) {
	got := policy(t, `{"event_key":["/type","/action"],"droppable":["typing","presence*"],"conflate":{"cursor":"/user"},
		"max_size":{"typing":"1KiB"},
		"admit":{"rules":[{"deny":true,"header":"X-A"},{"deny":true,"header":"x-a","equals":"1"},{"deny":true,"query":"q"}]},
		"framing":{"header":"X-Workflow-Version","range":">=4.6.0"},
		"retry_after":"1s",
		"error_format":{"websocket":"{\"id\":{{field:/id}}{{?field:/seq}}}"},
		"gap_notice":"{\"of\":{{field:/id}}}"}`)
	want := sdk.Shape{
		EventKey: []string{"/type", "/action"}, Keep: []string{"/id", "/seq"}, Prewarm: []string{"typing", "cursor"},
		AdmitHeaders: []string{"x-a"}, FramingHeaders: []string{"x-workflow-version"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestEventsAreClassified(t *testing.T) {
	policy(t, `{"droppable":["presence*","typing","*.tmp","log"],"droppable_unless":"/seq",
		"conflate":{"cursor":"/user","view*":"/id"},"priority":{"log":2,"l*":9},
		"max_size":{"*":"1KiB","chat*":"2KiB","chat.file":4096,"log":"3KiB"}}`)
	f := func(key string, want sdk.Rule) {
		t.Helper()
		var got sdk.Rule
		r := ask(t, hostabi.Classify, &sdk.ClassifyInput{Key: []byte(key)}, &got)
		if got != want || r.Cache() != hostabi.CacheGeneration {
			t.Errorf("%s: %+v, want %+v", key, got, want)
		}
	}
	drop := sdk.Rule{Class: sdk.Droppable, Unless: "/seq", MaxSize: 1024}
	f("typing", drop)
	f("presence", drop)
	f("presence_join", drop)
	f("message", sdk.Rule{MaxSize: 1024})
	f("typing2", sdk.Rule{MaxSize: 1024})
	f("a.tmp", sdk.Rule{MaxSize: 1024}) // a star counts at the end only
	f("", sdk.Rule{MaxSize: 1024})
	f("cursor", sdk.Rule{Class: sdk.Droppable, Unless: "/seq", Conflate: "/user", MaxSize: 1024})
	f("viewport", sdk.Rule{Class: sdk.Droppable, Unless: "/seq", Conflate: "/id", MaxSize: 1024})
	f("log", sdk.Rule{Class: sdk.Droppable, Unless: "/seq", Priority: 2, MaxSize: 3072})
	f("lag", sdk.Rule{Priority: 9, MaxSize: 1024})
	f("chat.text", sdk.Rule{MaxSize: 2048})
	f("chat.file", sdk.Rule{MaxSize: 4096})
}

func TestAdmitRules(t *testing.T) {
	header := func(name, value string) *sdk.AdmitInput {
		return &sdk.AdmitInput{Headers: []hostabi.Header{{Name: name, Value: value}}}
	}
	query := func(q string) *sdk.AdmitInput { return &sdk.AdmitInput{Query: q} }
	f := func(rules string, in *sdk.AdmitInput, deny bool, message string) {
		t.Helper()
		policy(t, `{"admit":`+rules+`}`)
		var got sdk.AdmitOutput
		r := ask(t, hostabi.Admit, in, &got)
		want := sdk.AdmitOutput{}
		if deny {
			want = sdk.AdmitOutput{Deny: true, Code: hostabi.NotAdmitted, Message: message}
		}
		if got != want || r.Cache() != hostabi.CacheNo {
			t.Errorf("%s with %+v: %+v, want %+v", rules, in, got, want)
		}
	}
	f(`{"default":"deny"}`, query(""), true, "")
	f(`{"default":"deny","message":"closed"}`, query(""), true, "closed")

	present := `{"rules":[{"deny":true,"header":"x-debug","message":"no debugging"}]}`
	f(present, header("x-debug", ""), true, "no debugging")
	f(present, header("x-other", ""), false, "")
	absent := `{"rules":[{"deny":true,"header":"x-api-version","absent":true,"message":"send x-api-version"}]}`
	f(absent, query(""), true, "send x-api-version")
	f(absent, header("x-api-version", ""), false, "")
	equals := `{"rules":[{"deny":true,"query":"debug","equals":"1"}]}`
	f(equals, query("a=b&debug=1"), true, "")
	f(equals, query("debug=2&debug=1"), true, "")
	f(equals, query("%64ebug=%31"), true, "")
	f(equals, query("debug"), false, "")
	f(equals, query("debug=11"), false, "")
	f(`{"rules":[{"deny":true,"query":"a b","equals":"ä%z"}]}`, query("a+b=%C3%a4%z"), true, "")
	oneOf := `{"default":"deny","rules":[{"allow":true,"header":"x-api-version","one_of":["1","2"]}]}`
	f(oneOf, header("x-api-version", "2"), false, "")
	f(oneOf, header("x-api-version", "3"), true, "")
	f(oneOf, query("x-api-version=1"), true, "")
	prefix := `{"rules":[{"deny":true,"header":"user-agent","prefix":"Bad/"}]}`
	f(prefix, header("user-agent", "Bad/1.0"), true, "")
	f(prefix, header("user-agent", "bad/1.0"), false, "")
	first := `{"rules":[{"allow":true,"query":"key","equals":"s"},{"deny":true,"query":"key","message":"wrong key"}]}`
	f(first, query("key=s"), false, "")
	f(first, query("key=t"), true, "wrong key")
	f(first, query(""), false, "")
	f(`{"rules":[{"deny":true,"query":"k","absent":true}]}`, query("&&"), true, "")

	const tooMany = "the request has more than admission looks at"
	f(equals, query("a="+strings.Repeat("x", 4094)), false, "")
	f(equals, query("a="+strings.Repeat("x", 4095)), true, tooMany)
	f(equals, query(strings.Repeat("&", 64)), false, "")
	f(equals, query(strings.Repeat("&", 65)), true, tooMany)
	f(equals, query(strings.Repeat("debug&", 16)), false, "")
	f(equals, query(strings.Repeat("debug&", 16)+"debug=1"), true, tooMany)
	f(`{"rules":[{"allow":true,"query":"a"},{"allow":true,"query":"b"}]}`, query(strings.Repeat("&", 65)), true, tooMany)
	f(present, query(strings.Repeat("x", 5000)), false, "")
	f(oneOf, &sdk.AdmitInput{Headers: slices.Repeat(header("x-api-version", "3").Headers, 17)}, true, tooMany)
	of9 := `{"rules":[` + strings.Repeat(`{"deny":true,"header":"h","equals":"1"},`, 8) + `{"deny":true,"header":"h","equals":"1"}]}`
	f(of9, &sdk.AdmitInput{Headers: slices.Repeat(header("h", "2").Headers, 15)}, false, "")
	f(of9, &sdk.AdmitInput{Headers: slices.Repeat(header("h", "2").Headers, 16)}, true, tooMany)
	of200 := `{"rules":[` + strings.Repeat(`{"deny":true,"header":"h","equals":"1"},`, 199) + `{"deny":true,"header":"h","equals":"2"}]}`
	f(of200, header("h", "2"), true, "")
	f(of200, header("h", "3"), false, "")
	f(equals, query(strings.Repeat("%61=&", 60)), false, "")
	of64 := `{"rules":[{"deny":true,"query":"` + strings.Repeat("n", 64) + `"}]}`
	f(of64, query(strings.Repeat(strings.Repeat("%", 64)+"&", 16)), false, "")
	f(of64, query(strings.Repeat(strings.Repeat("%", 64)+"&", 16)+"+"), true, tooMany)
	f(of64, query(strings.Repeat(strings.Repeat("%", 64)+"&", 16)+strings.Repeat("n", 64)), true, "")
	f(of64, query(strings.Repeat(strings.Repeat("%", 64)+"&", 17)+strings.Repeat("n", 64)), true, tooMany)
	// What tables in browsers ask for (DataTables), in names too long for a rule as decoded.
	var columns strings.Builder
	for i := range 10 {
		for _, of := range []string{"data", "name", "searchable", "orderable", "search%5D%5Bvalue", "search%5D%5Bregex"} {
			fmt.Fprintf(&columns, "columns%%5B%d%%5D%%5B%s%%5D=x&", i, of)
		}
	}
	token := `{"default":"deny","rules":[{"allow":true,"query":"access_token","equals":"s"}]}`
	f(token, query(columns.String()+"access_token=s"), false, "")
	f(of64, query(strings.Repeat("a=%25%25%25%25%25%25%25%25%25%25&", 64)), false, "")
	f(`{"rules":[{"deny":true,"query":"debug","prefix":"1"}]}`, query("debug=%312"), true, "")
	f(`{"default":"deny","rules":[{"allow":true,"query":"k","equals":""}]}`, query("k=0"), true, "")
	f(`{"default":"deny","rules":[{"allow":true,"query":"k","equals":"ab"}]}`, query("k=abc"), true, "")
	f(`{"default":"deny","rules":[{"allow":true,"query":"k","equals":"ab"}]}`, query("kk=ab"), true, "")
}

func TestFramingFollowsTheVersionHeader(t *testing.T) {
	const versions = `"header":"X-Workflow-Version","range":">=4.6.0 <5.0.0-0 || >=5.0.0-beta.15"`
	f := func(config string, in *sdk.FramingInput, client, upstream hostabi.Framing) {
		t.Helper()
		policy(t, `{"framing":{`+config+`}}`)
		var got sdk.FramingOutput
		r := ask(t, hostabi.FramingHook, in, &got)
		if got.Client != client || got.Upstream != upstream || r.Cache() != hostabi.CacheGeneration {
			t.Errorf("%s with %+v: %s and %s, want %s and %s", config, in.Headers, got.Client, got.Upstream, client, upstream)
		}
	}
	version := func(v ...string) *sdk.FramingInput {
		in := &sdk.FramingInput{}
		for _, v := range v {
			in.Headers = append(in.Headers, hostabi.Header{Name: "x-workflow-version", Value: v})
		}
		return in
	}
	for v, want := range map[string]hostabi.Framing{
		"4.5.9": hostabi.Raw, "4.6.0": hostabi.FramedV1, "4.99.1": hostabi.FramedV1, "5.0.0-beta.14": hostabi.Raw,
		"5.0.0-beta.15": hostabi.FramedV1, "5.0.0": hostabi.FramedV1, "unknown": hostabi.Raw, "": hostabi.Raw,
	} {
		f(versions, version(v), want, hostabi.Raw)
	}
	f(versions, version(), hostabi.Raw, hostabi.Raw)
	f(versions, version("4.6.0", "4.6.0"), hostabi.Raw, hostabi.Raw)
	f(versions+`,"upstream":"framed-v1"`, version("4.6.0"), hostabi.FramedV1, hostabi.FramedV1)
	f(versions+`,"upstream":"auto"`, version("4.6.0"), hostabi.FramedV1, hostabi.FramedV1)
	f(versions+`,"upstream":"auto"`, version("4.5.0"), hostabi.Raw, hostabi.Raw)
	f(versions+`,"client":"framed-v1"`, version(), hostabi.FramedV1, hostabi.Raw)
	f(versions+`,"client":"raw"`, version("4.6.0"), hostabi.Raw, hostabi.Raw)
	f(`"upstream":"framed-v1"`, version(), hostabi.Raw, hostabi.FramedV1)

	policy(t, `{"framing":{"client":"framed-v1","max_frame_size":"1MiB"}}`)
	var got sdk.FramingOutput
	if ask(t, hostabi.FramingHook, &sdk.FramingInput{}, &got); got.MaxFrameSize != 1<<20 {
		t.Errorf("max frame size %d", got.MaxFrameSize)
	}
	if r := ask(t, hostabi.FramingHook, &sdk.FramingInput{Transport: hostabi.WebSocket}, &got); r.Status() != hostabi.StatusNoOpinion {
		t.Errorf("WebSocket: status %d", r.Status())
	}
}

func TestFaultsAreOverridden(t *testing.T) {
	policy(t, `{"permanent":["inbox_full",502,"5xx"],"retryable":["not_admitted","503"],
		"retry_after":{"not_admitted":"1s","429":"1500ms","503":"1m"}}`)
	f := func(in sdk.FaultInput, want string) {
		t.Helper()
		var out sdk.FaultOutput
		got := "no opinion"
		if r := ask(t, hostabi.FaultHook, &in, &out); r.Status() == hostabi.StatusOK {
			got = map[bool]string{true: "retryable", false: "permanent"}[out.Retryable]
			if out.RetryAfterMS != 0 {
				got += " after " + strconv.Itoa(int(out.RetryAfterMS))
			}
		}
		if got != want {
			t.Errorf("%+v: %s, want %s", in, got, want)
		}
	}
	f(sdk.FaultInput{Code: hostabi.InboxFull, Status: 429}, "permanent")
	f(sdk.FaultInput{Code: hostabi.NotAdmitted, Status: 403}, "retryable after 1000")
	f(sdk.FaultInput{Code: hostabi.RateLimited, Status: 429}, "retryable after 1500")
	f(sdk.FaultInput{Code: hostabi.Draining, Status: 503}, "retryable after 60000")
	f(sdk.FaultInput{Code: hostabi.UpstreamTimeout, Status: 504}, "permanent")
	f(sdk.FaultInput{Status: 502}, "permanent")
	f(sdk.FaultInput{Status: 503}, "retryable after 60000")
	f(sdk.FaultInput{Status: 429}, "retryable after 1500")
	f(sdk.FaultInput{Status: 404}, "no opinion")
	f(sdk.FaultInput{Code: hostabi.PayloadTooLarge, Status: 413}, "no opinion")

	policy(t, `{"retry_after":"2s"}`)
	f(sdk.FaultInput{Code: hostabi.InboxFull, Status: 429}, "retryable after 2000")
	f(sdk.FaultInput{Code: hostabi.PayloadTooLarge, Status: 413}, "no opinion")
}

func TestEnvelopes(t *testing.T) {
	f := func(config string, in sdk.ErrorInput, want sdk.ErrorOutput) {
		t.Helper()
		policy(t, config)
		var got sdk.ErrorOutput
		r := ask(t, hostabi.ErrorHook, &in, &got)
		if got != want || (r.Status() == hostabi.StatusNoOpinion) != (want == sdk.ErrorOutput{}) {
			t.Errorf("%s with %+v: %+v (status %d), want %+v", config, in, got, r.Status(), want)
		}
	}
	onHTTP := sdk.ErrorInput{Code: hostabi.InboxFull}
	onWS := sdk.ErrorInput{Code: hostabi.InboxFull, Transport: hostabi.WebSocket}
	gap := sdk.ErrorInput{Code: hostabi.Gap, Transport: hostabi.WebSocket, Direction: hostabi.ToClient}
	native := sdk.ErrorOutput{}

	f(`{"error_format":"problem+json"}`, onHTTP, native)
	f(`{"error_format":"json"}`, onHTTP, sdk.ErrorOutput{Template: hostabi.EventTemplate, ContentType: "application/json"})
	f(`{"error_format":"json"}`, onWS, native)
	both := `{"error_format":{"http":"{\"h\":{{code}}}","websocket":"{\"w\":{{code}}}"}}`
	f(both, onHTTP, sdk.ErrorOutput{Template: `{"h":{{code}}}`, ContentType: "application/json"})
	f(both, onWS, sdk.ErrorOutput{Template: `{"w":{{code}}}`})
	f(both, gap, native)
	f(`{"error_format":{"http":"{{code}}","content_type":"text/plain"}}`, onHTTP, sdk.ErrorOutput{Template: "{{code}}", ContentType: "text/plain"})
	f(`{"error_format":{"http":"{{code}}"}}`, onWS, native)

	f(`{"gap_notice":true}`, gap, sdk.ErrorOutput{Template: `{"type":"gap","dropped":{{count}}}`})
	f(`{"gap_notice":"{\"n\":{{count}}}"}`, gap, sdk.ErrorOutput{Template: `{"n":{{count}}}`})
	f(`{"gap_notice":false}`, gap, native)
	f(`{"gap_notice":true}`, sdk.ErrorInput{Code: hostabi.Gap}, native)
	f(`{"gap_notice":true}`, onWS, native)

	f(`{"error_to":{"inbox_full":"receiver"}}`, onWS, sdk.ErrorOutput{Template: hostabi.EventTemplate, Recipient: hostabi.ToReceiver})
	f(`{"error_to":{"inbox_full":"nobody"},"error_format":{"websocket":"{}"}}`, onWS, sdk.ErrorOutput{Template: "{}", Recipient: hostabi.ToNobody})
	f(`{"error_to":{"draining":"nobody"}}`, onWS, native)
	f(`{"error_to":{"inbox_full":"nobody"}}`, onHTTP, native)
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	f := func(config, want string) {
		t.Helper()
		before := current
		if _, got := configured(t, config); got != want {
			t.Errorf("%s:\n got %s\nwant %s", config, got, want)
		}
		if !reflect.DeepEqual(before, current) {
			t.Errorf("%s: took effect", config)
		}
	}
	f(`{"dropable":["x"],"gap_notice":1}`, "gap_notice: wanted a boolean, have a number; dropable: unknown key (known here: admit, conflate, droppable, droppable_unless, error_format, error_to, event_key, framing, gap_notice, max_size, permanent, priority, retry_after, retryable)")
	f(`{"event_key":"type"}`, `event_key[0]: "type" is not a pointer such as "/type"`)
	f(`{"event_key":7}`, "event_key: wanted a string or a list of strings, have a number")
	f(`{"droppable":{"typing":true}}`, "droppable: wanted a string or a list of strings, have a table")
	f(`{"droppable_unless":"/a~2"}`, `droppable_unless: "/a~2" is not a pointer such as "/type"`)
	f(`{"droppable_unless":"/`+strings.Repeat("k", hostabi.MaxPointer)+`"}`, "droppable_unless: pointer of 257 bytes exceeds 256")
	f(`{"conflate":{"cursor":""}}`, `conflate.cursor: "" is not a pointer such as "/type"`)
	f(`{"priority":{"log":256}}`, "priority.log: 256 is not a whole number from 0 to 255")
	f(`{"max_size":{"log":"1 KiB"}}`, `max_size.log: "1 KiB" is not a size such as "64KiB", or a number of bytes`)
	f(`{"admit":{"rules":[{"header":"a"}]}}`, "admit.rules[0].deny: a rule needs deny = true or allow = true, and not both")
	f(`{"admit":{"rules":[{"deny":true,"allow":true,"header":"a"}]}}`, "admit.rules[0].deny: a rule needs deny = true or allow = true, and not both")
	f(`{"admit":{"rules":[{"deny":true}]}}`, "admit.rules[0].header: a rule needs a header or a query, and not both")
	f(`{"admit":{"rules":[{"deny":true,"header":"a","query":"b"}]}}`, "admit.rules[0].header: a rule needs a header or a query, and not both")
	f(`{"admit":{"rules":[{"deny":true,"header":"*"}]}}`, "admit.rules[0].header: * is no header's name")
	f(`{"admit":{"rules":[{"allow":true,"header":"a","message":"m"}]}}`, "admit.rules[0].message: only a rule that denies has a message")
	f(`{"admit":{"rules":[{"deny":true,"header":"a","equals":"1","prefix":"2"}]}}`, "admit.rules[0].prefix: a rule has at most one of absent, equals, one_of and prefix")
	f(`{"admit":{"rules":[{"deny":true,"header":"a","one_of":[]}]}}`, "admit.rules[0].one_of: is empty, which nothing would match")
	f(`{"admit":{"rules":[{"deny":true,"header":"a","one_of":true}]}}`, "admit.rules[0].one_of: wanted a string or a list of strings, have a boolean")
	f(`{"admit":{"message":"m"}}`, `admit.message: is shown only with default = "deny"; a rule has its own`)
	f(`{"framing":{"header":"a","range":""}}`, `framing.range: "" has an alternative without a comparator`)
	f(`{"admit":{"rules":[{"deny":true,"header":"a","matches":"1"}]}}`, "admit.rules[0].matches: unknown key (known here: absent, allow, deny, equals, header, message, one_of, prefix, query)")
	f(`{"admit":{"default":"maybe"}}`, `admit.default: "maybe" is not one of allow, deny`)
	f(`{"framing":{"client":"auto"}}`, `framing.header: is needed for "auto"; framing.range: is needed for "auto"`)
	f(`{"framing":{"header":"v","range":"^1"}}`, `framing.range: "^1" is not a comparator such as >=4.6.0 or <5.0.0-0`)
	f(`{"framing":{"client":"framed"}}`, `framing.client: "framed" is not one of raw, framed-v1, auto`)
	f(`{"framing":{"max_frame_size":"5GiB"}}`, "framing.max_frame_size: 5368709120 bytes, at most 4294967295")
	f(`{"permanent":["oops",200,"4xx"]}`, `permanent[0]: "oops" is neither a fault code nor a status such as 502 or "5xx"; permanent[1]: "200" is neither a fault code nor a status such as 502 or "5xx"`)
	f(`{"permanent":[502],"retryable":["502"]}`, `retryable[0]: "502" is also in permanent`)
	f(`{"retry_after":{"inbox_full":1}}`, `retry_after.inbox_full: "1" is not a duration such as "500ms", "1s" or "1m30s"`)
	f(`{"error_format":"xml"}`, `error_format: "xml" is not one of problem+json, json`)
	f(`{"error_format":{}}`, "error_format.http: error_format needs a template for http, websocket or both")
	f(`{"error_format":{"websocket":"{}","content_type":"text/plain"}}`, "error_format.content_type: only a template for http has a content type")
	f(`{"error_format":{"http":"{{cod}}"}}`, "error_format.http: unknown slot {{cod}}; known are "+strings.Join(hostabi.Slots, ", ")+" and field:/pointer")
	f(`{"gap_notice":"{{count"}`, "gap_notice: the slot {{count is not closed by }}")
	f(`{"gap_notice":""}`, "gap_notice: is empty; leave it out for no notice")
	f(`{"gap_notice":"`+strings.Repeat("x", 4097)+`"}`, "gap_notice: template of 4097 bytes exceeds 4096")
	f(`{"error_to":{"gap":"nobody","oops":"nobody"}}`, "error_to.gap: is not a fault code (known: payload_too_large, inbox_full, pending_limit, rate_limited, slow_consumer, too_many_connections, not_admitted, no_route, upstream_unavailable, upstream_timeout, upstream_closed, ack_timeout, session_expired, protocol_error, framing_error, policy_failed, draining); error_to.oops: is not a fault code")
	f(`{"error_to":{"draining":"all"}}`, `error_to.draining: "all" is not one of sender, receiver, nobody`)
}

func TestHotHooksAllocateNothing(t *testing.T) {
	policy(t, `{"admit":{"rules":[{"deny":true,"header":"x-a","equals":"1"},{"deny":true,"query":"debug"}]},
		"framing":{"header":"v","range":">=1.0.0 || >=2.0.0-beta.1"},"droppable":["presence*"]}`)
	classify := sdk.ClassifyInput{Key: []byte("presence_join")}
	admit := sdk.AdmitInput{Query: "a=b&c=d", Headers: []hostabi.Header{{Name: "x-a", Value: "2"}}}
	framing := sdk.FramingInput{Headers: []hostabi.Header{{Name: "v", Value: "2.0.0-beta.2"}}}
	n := testing.AllocsPerRun(100, func() {
		current.events.classify(&classify)
		current.admission.admit(&admit)
		current.framing.choose(&framing)
	})
	if n != 0 {
		t.Errorf("%v allocations: a guest must not need its collector (see sdk)", n)
	}
}

// FuzzConfigure: whatever an operator writes is refused with a message, or makes
// a policy whose every hook answers what the host can read.
func FuzzConfigure(f *testing.F) {
	for _, s := range []string{
		"{}", `{"event_key":["/type","/action"],"droppable":["typing","presence*"],"conflate":{"cursor":"/user"},"max_size":{"typing":"1KiB"}}`,
		`{"admit":{"rules":[{"deny":true,"header":"x-a","equals":"1"}]},"framing":{"header":"X-V","range":">=4.6.0"},"retry_after":"1s"}`,
		`{"error_format":{"websocket":"{\"id\":{{field:/id}}}"},"error_to":{"payload_too_large":"receiver"},"gap_notice":true,"priority":{"a":2}}`,
	} {
		f.Add(s, "typing")
	}
	f.Fuzz(func(t *testing.T, config, key string) {
		if len(config) > 1<<15 || len(key) > hostabi.MaxEventKey {
			return
		}
		out, r := sdk.Call(hostabi.Configure, (&sdk.ConfigureInput{Policy: "standard", Config: []byte(config)}).AppendTo(nil))
		if r.Status() != hostabi.StatusOK {
			var no hostabi.Refusal
			if err := no.Decode(out); err != nil || no.Message == "" {
				t.Fatalf("refused with %q: %v", out, err)
			}
			return
		}
		var shape sdk.Shape
		if err := shape.Decode(out); err != nil {
			t.Fatalf("%s: the shape %q: %v", config, out, err)
		}
		for h, c := range map[hostabi.Hook]struct {
			in  interface{ AppendTo([]byte) []byte }
			out interface{ Decode([]byte) error }
		}{
			hostabi.Classify:    {&sdk.ClassifyInput{Route: "r", Key: []byte(key)}, new(sdk.Rule)},
			hostabi.Admit:       {&sdk.AdmitInput{Route: "r", Path: "/", Headers: []hostabi.Header{{Name: "x-a", Value: key}}}, new(sdk.AdmitOutput)},
			hostabi.FramingHook: {&sdk.FramingInput{Headers: []hostabi.Header{{Name: "x-v", Value: key}}}, new(sdk.FramingOutput)},
			hostabi.FaultHook:   {&sdk.FaultInput{Status: 500, ErrorType: key}, new(sdk.FaultOutput)},
			hostabi.ErrorHook:   {&sdk.ErrorInput{Code: hostabi.PayloadTooLarge, Transport: hostabi.WebSocket}, new(sdk.ErrorOutput)},
		} {
			b, r := sdk.Call(h, c.in.AppendTo(nil))
			if err := c.out.Decode(b); err != nil || r.Status() > hostabi.StatusNoOpinion {
				t.Errorf("%s: hook %s answers %q, %#x, %v", config, h, b, uint64(r), err)
			}
		}
	})
}

// A table of thousands of pointers is read in the time that configuring has.
func TestCheckingAPointerAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(10, func() { checkPointer(nil, "cursor", "/user~0s/~1") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
