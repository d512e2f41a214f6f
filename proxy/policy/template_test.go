package policy

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"weir/hostabi"
)

// absent are values without anything optional.
func absent() Values { return Values{Limit: -1, Actual: -1} }

func TestTemplateFills(t *testing.T) {
	full := Values{
		Message: "too \"big\"\n", Retryable: true, RetryAfterMS: 1500, Limit: 10, Actual: 20, TraceID: "t1",
		Count: 3, Key: []byte("a:b"), Fields: [][]byte{[]byte(`{"x":1}`), nil}, Status: 418,
	}
	keep := []string{"/id", "/a/b~1c"}
	for _, c := range []struct {
		template     string
		full, absent string
	}{
		{"", "", ""},
		{"plain } text }} {", "plain } text }} {", "plain } text }} {"},
		{"{{code}}", `"inbox_full"`, `"inbox_full"`},
		{"{{message}}", `"too \"big\"\n"`, `"Too many messages are waiting for the upstream."`},
		{"{{title}}", `"Too many messages are waiting for the upstream."`, `"Too many messages are waiting for the upstream."`},
		{"{{retryable}}", "true", "false"},
		{"{{retry_after_ms}}", "1500", "null"},
		{"{{limit}}/{{actual}}", "10/20", "null/null"},
		{"{{trace_id}}", `"t1"`, "null"},
		{"{{count}}", "3", "null"},
		{"{{key}}", `"a:b"`, "null"},
		{"{{status}}", "418", "429"},
		{"{{field:/id}}", `{"x":1}`, "null"},
		{"{{field:/a/b~1c}}", "null", "null"},
		{"[0{{?limit}}{{?trace_id}}]", `[0,"limit":10,"trace_id":"t1"]`, "[0]"},
		{"{{?code}}", `,"code":"inbox_full"`, `,"code":"inbox_full"`},
		{"{{?field:/id}}{{?field:/a/b~1c}}", `,"id":{"x":1}`, ""},
		{`{"a":{"b":{{limit}}}}`, `{"a":{"b":10}}`, `{"a":{"b":null}}`},
	} {
		compiled, err := compileTemplate(c.template, keep)
		if err != nil {
			t.Errorf("%s: %v", c.template, err)
			continue
		}
		e := &Envelope{Status: 429, code: hostabi.InboxFull, title: faultRow(hostabi.InboxFull).Title, body: compiled}
		none := absent()
		want(t, c.template, string(e.Append([]byte("·"), &full)), "·"+c.full)
		want(t, c.template+" absent", string(e.Append(nil, &none)), c.absent)
	}
}

func TestTemplateRefuses(t *testing.T) {
	for _, c := range []struct{ template, says string }{
		{"{{", "byte 0"},
		{`{"a":{{code}`, "byte 5"},
		{"{{nonsense}}", "{{nonsense}}"},
		{"ab{{?nonsense}}", "byte 2"},
		{"{{ code }}", "{{ code }}"},
		{"{{}}", "{{}}"},
		{"{{?}}", "{{?}}"},
		{"{{field:/other}}", `"/other"`},
		{"{{field:}}", "not kept"},
		{strings.Repeat("x", hostabi.MaxTemplate+1), "4097 bytes exceeds 4096"},
	} {
		_, err := compileTemplate(c.template, []string{"/id"})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.40s: error %v does not say %q", c.template, err, c.says)
		}
	}
}

func TestSlotsAreThoseOfTheABI(t *testing.T) {
	want(t, "slots", len(hostabi.Slots), int(slotField-slotCode))
	v := Values{Message: "m", Retryable: true, RetryAfterMS: 1, TraceID: "t", Count: 1, Key: []byte("k"), Status: 1}
	for _, name := range hostabi.Slots {
		compiled, err := compileTemplate("{{?"+name+"}}", nil)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := compiled.append(nil, &Envelope{code: hostabi.Gap, title: gapTitle}, &v)
		if !strings.HasPrefix(string(got), `,"`+name+`":`) {
			t.Errorf("slot %s fills as %s", name, got)
		}
	}
}

func TestJSONStrings(t *testing.T) {
	for _, s := range []string{
		"", "plain", `q"b\s/`, "\x00\x01\x1f\x7f", "\n\r\t\b\f", "äöü€😀", "\u2028\u2029", "a\xffb", "\xe2\x82", "\xed\xa0\x80", "€\xf0\x9f\x98",
	} {
		for _, got := range []string{string(appendJSON(nil, s)), string(appendJSON(nil, []byte(s)))} {
			var back string
			if err := json.Unmarshal([]byte(got), &back); err != nil {
				t.Errorf("%q became %s: %v", s, got, err)
			}
			want(t, got, back, replaceInvalid(s))
		}
	}
}

func TestFieldsThatAreNotTextAreAbsent(t *testing.T) {
	compiled, err := compileTemplate("{{field:/id}}", []string{"/id"})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := compiled.append(nil, &Envelope{}, &Values{Fields: [][]byte{[]byte("\"\xff\"")}})
	want(t, "field", string(got), "null")
}

func FuzzTemplate(f *testing.F) {
	f.Add(hostabi.ProblemTemplate, "m", "t", "k")
	f.Add(hostabi.EventTemplate, "\x00\"", "\xff", "\u2028")
	f.Add(`{"a":{{field:/id}}{{?field:/id}}}`, "", "", "")
	f.Add("{{{{}}}}{{?code", "", "", "")
	keep := []string{"/id"}
	f.Fuzz(func(t *testing.T, text, message, trace, key string) {
		out := hostabi.ErrorOutput{Template: text, ContentType: "application/json"}
		compile := func(s string) (template, error) { return compileTemplate(s, keep) }
		e, err := newEnvelope(hostabi.InboxFull, hostabi.WebSocket, &out, keep, compile)
		if err != nil {
			return
		}
		for _, v := range []Values{
			absent(),
			{Message: message, TraceID: trace, Key: []byte(key), RetryAfterMS: 5, Limit: 1 << 62, Actual: 0, Count: 9, Retryable: true},
			{Message: message, Key: []byte(key), Limit: -1, Actual: 3, Fields: [][]byte{[]byte("[1,2]")}},
		} {
			got := e.Append(nil, &v)
			if !json.Valid(got) {
				t.Fatalf("%q fills as %q, which is not JSON", text, got)
			}
			if !utf8.Valid(got) {
				t.Fatalf("%q fills as %q, which is not UTF-8", text, got)
			}
		}
	})
}

func FuzzJSONString(f *testing.F) {
	f.Add("a\"\\\n\x00\xff\u2028€😀")
	f.Fuzz(func(t *testing.T, s string) {
		got := appendJSON(nil, s)
		var back string
		if err := json.Unmarshal(got, &back); err != nil || !utf8.Valid(got) {
			t.Fatalf("%q became %q: %v", s, got, err)
		}
		want(t, "round trip", back, replaceInvalid(s))
		want(t, "as bytes", string(appendJSON(nil, []byte(s))), string(got))
	})
}

// replaceInvalid has U+FFFD for each byte that is not UTF-8.
func replaceInvalid(s string) string { return string([]rune(s)) }
