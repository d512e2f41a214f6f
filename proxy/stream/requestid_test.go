package stream

import (
	"regexp"
	"strings"
	"testing"

	"weir/proxy/http1"
)

func TestRequestID(t *testing.T) {
	long := strings.Repeat("x", 129)
	for _, c := range []struct {
		name    string
		fields  []string
		trusted bool
		trace   string // empty: made
		request string // likewise
		state   bool   // tracestate goes on
	}{
		{name: "nothing given"},
		{name: "both given", fields: []string{"traceparent: " + traceparent, "X-Request-ID: Az09-._~:+/=@", "tracestate: a=b"}, trace: traceparent, request: "Az09-._~:+/=@", state: true},
		{name: "a later version may say more", fields: []string{"traceparent: 01" + traceparent[2:] + "-more"}, trace: "01" + traceparent[2:] + "-more"},
		{name: "version 00 may not", fields: []string{"traceparent: " + traceparent + "-more", "tracestate: a=b"}},
		{name: "a later version with more but no dash", fields: []string{"traceparent: 01" + traceparent[2:] + "x"}},
		{name: "version ff", fields: []string{"traceparent: ff" + traceparent[2:]}},
		{name: "upper case", fields: []string{"traceparent: " + strings.ToUpper(traceparent)}},
		{name: "a trace of zeroes", fields: []string{"traceparent: 00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01"}},
		{name: "a parent of zeroes", fields: []string{"traceparent: 00-" + trace + "-0000000000000000-01"}},
		{name: "too short", fields: []string{"traceparent: " + traceparent[:54]}},
		{name: "another separator", fields: []string{"traceparent: " + strings.Replace(traceparent, "-", "_", 1)}},
		{name: "two of them", fields: []string{"traceparent: " + traceparent, "traceparent: " + traceparent, "X-Request-Id: a", "X-Request-Id: b"}},
		{name: "a stranger's odd request id", fields: []string{`X-Request-Id: a"b`}},
		{name: "a trusted proxy's odd request id", fields: []string{`X-Request-Id: a"b`}, trusted: true, request: `a"b`},
		{name: "a space even from a trusted proxy", fields: []string{`X-Request-Id: a b`}, trusted: true},
		{name: "an empty one", fields: []string{`X-Request-Id:`}, trusted: true},
		{name: "one that is too long", fields: []string{"X-Request-Id: " + long}, trusted: true},
	} {
		src := head(t, append([]string{"Host: a"}, c.fields...)...)
		id := NewRequestID(src, c.trusted)
		dst := forward(t, src, forwarding{Client: client("::1", "::1", c.trusted, false), ID: id})

		parents, requests := dst.Values("traceparent"), []string{}
		if len(parents) != 1 {
			t.Fatalf("%s: %d traceparent", c.name, len(parents))
		}
		parent := string(parents[0])
		switch {
		case c.trace != "" && parent != c.trace:
			t.Errorf("%s: traceparent %s", c.name, parent)
		case c.trace == "" && (!madeTrace.MatchString(parent) || strings.Contains(parent, trace)):
			t.Errorf("%s: made %s", c.name, parent)
		}
		if id.TraceID() != parent[3:35] {
			t.Errorf("%s: trace id %s of %s", c.name, id.TraceID(), parent)
		}
		for _, v := range dst.Values("x-request-id") {
			requests = append(requests, string(v))
		}
		switch {
		case len(requests) != 1 || requests[0] != id.String():
			t.Errorf("%s: %q and %s", c.name, requests, id)
		case c.request != "" && requests[0] != c.request:
			t.Errorf("%s: request id %s", c.name, requests[0])
		case c.request == "" && !madeID.MatchString(requests[0]):
			t.Errorf("%s: made %s", c.name, requests[0])
		}
		if has := len(dst.Get("tracestate")) > 0; has != c.state {
			t.Errorf("%s: tracestate forwarded: %v", c.name, has)
		}
	}
}

// FuzzRequestID: whatever a client sends, the ids that go to logs, envelopes and
// the upstream are well-formed.
func FuzzRequestID(f *testing.F) {
	f.Add([]byte(traceparent), []byte("abc"), false)
	f.Add([]byte("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what"), []byte("{}"), true)
	trace, ids := regexp.MustCompile(`^[0-9a-f]{32}$`), regexp.MustCompile(`^[!-~]{1,128}$`)
	f.Fuzz(func(t *testing.T, traceparent, request []byte, trusted bool) {
		h := new(http1.Request)
		h.Add("Traceparent", string(traceparent))
		h.Add("X-Request-Id", string(request))
		id := NewRequestID(h, trusted)
		if s := id.TraceID(); !trace.MatchString(s) || s == strings.Repeat("0", 32) {
			t.Errorf("%q: trace id %q", traceparent, s)
		}
		if s := id.String(); !ids.MatchString(s) || !trusted && strings.ContainsAny(s, "\"\\{}<>'`") {
			t.Errorf("%q: request id %q", request, s)
		}
	})
}
