//go:build e2e

package e2e

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestThePolicyAdmits(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	s := n.serve(args{"echo": true})
	g := start(t, settings{urls: s.url, policy: `[[policy.p.config.admit.rules]]
deny = true
header = "X-Blocked"
message = "blocked here"

[[policy.p.config.admit.rules]]
allow = true
query = "key"
one_of = ["good", "a b"]

[[policy.p.config.admit.rules]]
deny = true
query = "key"
absent = true
message = "a key is needed"

[policy.p.config.admit]
default = "deny"
message = "unknown key"
`})
	for _, c := range []struct {
		target, fields, denied string
	}{
		{"/?key=good", "", ""},
		{"/?x=1&key=a+b", "", ""},
		{"/?key=a%20b", "", ""},
		{"/?key=bad", "", "unknown key"},
		{"/", "", "a key is needed"},
		{"/?key=good", "X-Blocked: 1\r\n", "blocked here"},
		{"/?key=good", "x-blocked:\r\n", "blocked here"},
	} {
		conn := dialRaw(t, g.addr)
		conn.send("GET " + c.target + " HTTP/1.1\r\nHost: a\r\n" + c.fields + "\r\n")
		a := conn.response("GET")
		if c.denied == "" {
			if a.StatusCode != 200 {
				t.Errorf("%+v: %s %s", c, a.Status, a.body)
			}
			n.dial(g.ws(c.target), nil)
			continue
		}
		if p := decodeProblem(t, a.body); a.StatusCode != 403 || p.Code != "not_admitted" || p.Retryable || p.Detail != c.denied {
			t.Errorf("%+v: %s %s", c, a.Status, a.body)
		}
		if c.fields == "" {
			if p := decodeProblem(t, n.refused(g.ws(c.target), nil, 403).Text); p.Code != "not_admitted" || p.Detail != c.denied {
				t.Errorf("%+v: %+v", c, p)
			}
		}
	}
	if n := g.metric(`weir_faults_total{code="not_admitted"}`); n != 6 {
		t.Errorf("counted %v", n)
	}
}

func TestTheErrorFormatIsThePolicys(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	g := start(t, settings{policy: `error_format = "json"`, limits: `max_body_size = 10`})
	resp, err := client.Post(g.http("/echo"), "text/plain", strings.NewReader("eleven chars"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if e := decodeError(t, string(body)); resp.StatusCode != 413 || resp.Header.Get("Content-Type") != "application/json" || e.Error.Code != "payload_too_large" || e.Error.Limit != 10 || e.Error.Actual != 12 {
		t.Errorf("%s %v %s", resp.Status, resp.Header, body)
	}
	// Templates of one's own, for both.
	g = start(t, settings{limits: "max_message_size = 100\nmax_body_size = 10", policy: `[policy.p.config.error_format]
http = '{"oops":{{code}},"how":{{message}},"again":{{retryable}},"st":{{status}}}'
content_type = "application/x-oops+json"
websocket = '{"type":"nack","for":{{field:/id}},"seq":{{field:/meta/seq}}{{?field:/gone}},"max":{{limit}},"key":{{key}}}'`})
	resp, err = client.Post(g.http("/echo"), "text/plain", strings.NewReader("eleven chars"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ = io.ReadAll(resp.Body)
	if want := `{"oops":"payload_too_large","how":"request body of 12 bytes exceeds max_body_size 10","again":false,"st":413}`; string(body) != want || resp.Header.Get("Content-Type") != "application/x-oops+json" {
		t.Errorf("%v %s", resp.Header, body)
	}
	c := n.dial(g.ws("/ws"), nil)
	c.sendSized(`{"id":"a\"b","type":"t","meta":{"seq":[1, 2]},"pad":"`, 101, `"}`)
	if got, want := c.message(), `{"type":"nack","for":"a\"b","seq":[1, 2],"max":100,"key":"t"}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	c.do("send", args{"text": "not JSON", "size": 101, "binary": true})
	if got, want := c.message(), `{"type":"nack","for":null,"seq":null,"max":100,"key":""}`; got != want && got != strings.Replace(want, `""`, "null", 1) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestThePolicySaysWhatIsWorthRetrying(t *testing.T) {
	t.Parallel()
	g := start(t, settings{policy: `permanent = ["upstream_unavailable"]
retry_after = { upstream_timeout = "1500ms", 503 = "7s" }`, urls: "http://" + freeAddr(t)})
	a := g.get("/")
	if p := decodeProblem(t, a.body); p.Retryable || p.RetryAfterMS != 0 || a.Header.Get("Retry-After") != "" {
		t.Errorf("%v %s", a.Header, a.body)
	}
	s := g.settings
	s.urls, s.upstream = backend(t, func(c *raw) { _, _ = io.Copy(io.Discard, c.br) }), `response_timeout = "200ms"`
	g = start(t, s)
	a = g.get("/")
	if p := decodeProblem(t, a.body); !p.Retryable || p.RetryAfterMS != 1500 || a.Header.Get("Retry-After") != "2" {
		t.Errorf("%v %s", a.Header, a.body)
	}
	s.urls = answering(t, "HTTP/1.1 503 Later\r\nContent-Length: 4\r\n\r\nbusy", nil)
	g = start(t, s)
	if a = g.get("/"); a.body != "busy" || a.Header.Get("Retry-After") != "7" {
		t.Errorf("%v %q", a.Header, a.body)
	}
}

// frames is bytes in framed-v1.
func framesOf(parts ...string) string {
	var b []byte
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return string(b)
}

func chunks(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(p), p)
	}
	return b.String()
}

func TestFramedStreams(t *testing.T) {
	t.Parallel()
	const head, end = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n"
	framing := func(upstream string) string {
		return `framing = { header = "X-Version", range = ">=4.6.0 <5.0.0-0 || >=5.0.0-beta.15", upstream = "` + upstream + `", max_frame_size = 20 }`
	}
	for _, c := range []struct {
		name, upstream, version, answer, want string
		cut                                   bool
	}{
		{"both framed pass", "framed-v1", "4.7.0", head + chunks(framesOf("one", "", "three")) + end, framesOf("one", "", "three"), false},
		{"frames split anywhere pass", "framed-v1", "5.0.0-beta.15", head + chunks("\x00\x00", "\x00\x03o", "ne\x00\x00\x00\x00") + end, framesOf("one", ""), false},
		{"only the upstream is framed", "framed-v1", "4.5.9", head + chunks(framesOf("one", "", "two")) + end, "onetwo", false},
		{"no version is raw", "framed-v1", "", head + chunks(framesOf("one", "two")) + end, "onetwo", false},
		{"only the client is framed", "raw", "4.6.0", head + chunks("one", "two") + end, framesOf("one", "two"), false},
		{"neither is framed", "raw", "5.0.0-beta.2", head + chunks("one", "two") + end, "onetwo", false},
		{"cut within a frame", "framed-v1", "4.7.0", head + chunks(framesOf("one"), "\x00\x00\x00\x09tw") + end, framesOf("one"), true},
		{"cut within a length", "framed-v1", "4.5.0", head + chunks(framesOf("one"), "\x00\x00") + end, "one", true},
		{"a frame that is too long", "framed-v1", "4.7.0", head + chunks(framesOf("one", strings.Repeat("x", 21))) + end, framesOf("one"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			heads := make(chan string, 1)
			g := start(t, settings{policy: framing(c.upstream), urls: backend(t, func(conn *raw) {
				if head := conn.request(); head != "" {
					heads <- head
					conn.send(c.answer)
				}
			})})
			conn := dialRaw(t, g.addr)
			fields := "X-Version: " + c.version + "\r\n"
			if c.version == "" {
				fields = ""
			}
			conn.send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n" + fields + "\r\n")
			resp := conn.head("GET")
			body, err := io.ReadAll(resp.Body)
			if c.cut {
				if err == nil || !strings.HasPrefix(string(body), c.want) {
					t.Errorf("%q, ended cleanly: %v", body, err == nil)
				}
				g.logs.wait("why", "level=WARN", "code=framing_error")
			} else if err != nil || string(body) != c.want {
				t.Errorf("%q, %v; want %q", body, err, c.want)
			}
			framed := c.upstream == "framed-v1" || c.version == "4.6.0"
			if got := field(receive(t, "the head", heads), "Accept-Encoding"); (got == "identity") != framed {
				t.Errorf("upstream was asked for %q", got)
			}
		})
	}
}

// A request body is never touched by framing, and neither is an error.
func TestWhatIsNoStreamIsNotFramed(t *testing.T) {
	t.Parallel()
	g := start(t, settings{policy: `framing = { client = "framed-v1" }`, urls: answering(t, "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone", nil)})
	if a := g.get("/"); a.body != "gone" {
		t.Errorf("%q", a.body)
	}
}
