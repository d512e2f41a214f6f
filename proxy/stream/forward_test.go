package stream

import (
	"bytes"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"weir/proxy/http1"
)

const (
	trace       = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceparent = "00-" + trace + "-00f067aa0ba902b7-01"
)

// head parses a request head of the given fields, as it comes over the wire.
func head(t testing.TB, fields ...string) *http1.Request {
	t.Helper()
	r := new(http1.Request)
	text := "GET /a/b?c=d HTTP/1.1\r\n" + strings.Join(append(fields, "", ""), "\r\n")
	if _, err := r.Parse([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return r
}

// forward is what Forward makes of src.
func forward(t testing.TB, src *http1.Request, f forwarding) *http1.Request {
	t.Helper()
	r := new(http1.Request)
	if _, err := r.Parse(sent(src, f)); err != nil {
		t.Fatal(err)
	}
	return r
}

// sent is the head of src as the upstream gets it, without framing.
func sent(src *http1.Request, f forwarding) []byte {
	head := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\n", src.Method, src.Target, src.Host)
	return append(new(forwarder).forward(head, src, f), "\r\n"...)
}

// fields are the lines of a head without the request line.
func fields(r *http1.Request) (lines []string) {
	for _, f := range r.Fields() {
		lines = append(lines, strings.TrimSuffix(string(f.AppendTo(nil)), "\r\n"))
	}
	return lines
}

func client(addr, peer string, trusted, tls bool) Client {
	return Client{Addr: netip.MustParseAddr(addr), Peer: netip.MustParseAddr(peer), Trusted: trusted, TLS: tls}
}

func TestForward(t *testing.T) {
	stranger := client("192.0.2.9", "192.0.2.9", false, false)
	own := []string{ // what Weir adds for stranger
		"X-Forwarded-For: 192.0.2.9",
		"X-Forwarded-Proto: http",
		"X-Forwarded-Host: a.example",
		"Forwarded: for=192.0.2.9;host=a.example;proto=http",
		"X-Request-Id: r-1",
		"Traceparent: " + traceparent,
		"Via: 1.1 weir",
	}
	ids := []string{"X-Request-Id: r-1", "Traceparent: " + traceparent}
	in := func(f ...string) []string { return slices.Concat([]string{"Host: a.example"}, f, ids) }
	out := func(f ...string) []string { return slices.Concat([]string{"Host: a.example"}, f, own) }
	replaced := func(changes ...string) []string {
		lines := slices.Clone(own)
		for _, c := range changes {
			name, _, _ := strings.Cut(c, ":")
			i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, name+":") })
			lines[i] = c
		}
		return append([]string{"Host: a.example"}, lines...)
	}

	for _, c := range []struct {
		name string
		in   []string
		f    forwarding
		out  []string
	}{
		{
			name: "end-to-end fields stay, in order and to the byte",
			in:   in("Cookie: a=\"1\";b", "Accept: x", "X-Twice: 1", "Cookie: c = d", "X-Twice: 2", "Range: bytes=0-1", "Content-Length: 3", "Content-Type: a/b", "User-Agent: x"),
			out:  out("Cookie: a=\"1\";b", "Accept: x", "X-Twice: 1", "Cookie: c = d", "X-Twice: 2", "Range: bytes=0-1", "Content-Type: a/b", "User-Agent: x"),
		},
		{
			name: "hop-by-hop fields go",
			in:   in("Connection: keep-alive", "Keep-Alive: timeout=5", "Proxy-Connection: x", "Proxy-Authorization: y", "TE: gzip", "Transfer-Encoding: chunked", "Upgrade: h2c", "Expect: 100-continue", "X: 1"),
			out:  out("X: 1"),
		},
		{
			name: "what Connection lists goes, wherever it stands, and the rest keeps its order",
			in:   in("X-A: 1", "X-B: 1", "X-A: 2", "Connection: x-B, close,X-C", "X-A: 3", "X-C: 1", "Connection: X-D", "X-D: 1", "X-A: 4"),
			out:  out("X-A: 1", "X-A: 2", "X-A: 3", "X-A: 4"),
		},
		{
			name: "Connection cannot list away the host or what Weir says",
			in:   in("Connection: host, content-length, x-forwarded-for, forwarded, x-request-id"),
			out:  out(),
		},
		{
			name: "Connection lists tokens, and no letter that Unicode folds to one of a name's",
			in:   in("Connection: coo\u212Aie, \u017Fec-websocket-key", "Cookie: a=b", "Sec-WebSocket-Key: k"),
			out:  out("Cookie: a=b", "Sec-WebSocket-Key: k"),
		},
		{
			name: "TE keeps trailers only, listed in Connection whether it was or not",
			in:   in("TE: gzip;q=0.5, trailers"),
			out:  slices.Insert(out(), 7, "Connection: TE", "TE: trailers"),
		},
		{
			name: "TE that Connection lists",
			in:   in("Connection: close, te", "TE: trailers"),
			out:  slices.Insert(out(), 7, "Connection: TE", "TE: trailers"),
		},
		{
			name: "a handshake keeps no TE",
			in:   in("Connection: Upgrade, TE", "Upgrade: websocket", "TE: trailers"),
			f:    forwarding{Upgrade: true},
			out:  slices.Insert(out(), 7, "Connection: Upgrade", "Upgrade: websocket"),
		},
		{
			name: "Trailer is told ahead, and leaves nothing out",
			in:   in("Trailer: X-Sum", "Trailer: X-Twice"),
			f:    forwarding{Chunked: true},
			out:  slices.Insert(out(), 7, "Trailer: X-Sum, X-Twice"),
		},
		{
			name: "Max-Forwards is one less where it counts",
			in:   in("Max-Forwards: 10", "X: 1"),
			f:    forwarding{Counted: true},
			out:  out("Max-Forwards: 9", "X: 1"),
		},
		{
			name: "Max-Forwards that is no number, and where it does not count",
			in:   in("Max-Forwards: +1", "Max-Forwards: x"),
			f:    forwarding{Counted: true},
			out:  out("Max-Forwards: +1", "Max-Forwards: x"),
		},
		{
			name: "Max-Forwards counts for few methods",
			in:   in("Max-Forwards: 10"),
			out:  out("Max-Forwards: 10"),
		},
		{
			name: "Proxy-Status is about the whole way",
			in:   in("Proxy-Status: a"),
			out:  out("Proxy-Status: a"),
		},
		{
			name: "Via is extended",
			in:   in("Via: 1.0 x"),
			out:  out("Via: 1.0 x"),
		},
		{
			name: "a stranger's word on the client is dropped, underscores too",
			in: in("X-Forwarded-For: 10.0.0.1", "x-forwarded-proto: https", "X-Forwarded-Host: evil", "X-Forwarded-Port: 1", "X_Forwarded_For: 10.0.0.1", "X.Forwarded+For: 10.0.0.1", "X.Real.IP: 10.0.0.1",
				"Forwarded: for=10.0.0.1", "X-Real-IP: 10.0.0.1", "X_Real-Ip: 10.0.0.1", "X_Request_Id: r-2", "Proxy: http://evil"),
			out: out(),
		},
		{
			name: "a trusted proxy's word is extended",
			in: in("X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: 10.0.0.2, 10.0.0.3", "X-Forwarded-Proto: https", "X-Forwarded-Host: public", "X-Forwarded-Port: 443",
				"X_Forwarded_For: 1.1.1.1", "Forwarded: for=10.0.0.3;proto=https", "X-Real-IP: 10.0.0.3"),
			f: forwarding{Client: client("10.0.0.3", "192.0.2.9", true, false)},
			out: slices.Insert(replaced(
				"X-Forwarded-For: 10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.9",
				"X-Forwarded-Proto: https",
				"X-Forwarded-Host: public",
				"Forwarded: for=10.0.0.3;proto=https, for=192.0.2.9;host=a.example;proto=http",
			), 1, "X-Forwarded-Port: 443", "X-Real-IP: 10.0.0.3"),
		},
		{
			name: "what a trusted proxy says within a quote that does not end is not extended",
			in:   in(`Forwarded: for=1.1.1.1;x=", for=10.0.0.3`, "Forwarded: for=10.0.0.3"),
			f:    forwarding{Client: client("10.0.0.3", "192.0.2.9", true, false)},
			out: replaced(
				"X-Forwarded-For: 10.0.0.3, 192.0.2.9",
				"Forwarded: for=10.0.0.3, for=192.0.2.9;host=a.example;proto=http",
			),
		},
		{
			name: "a trusted proxy that uses one notation only is heard in both",
			in:   in("X-Forwarded-For: 2001:db8::1"),
			f:    forwarding{Client: client("2001:db8::1", "192.0.2.9", true, false)},
			out: replaced(
				"X-Forwarded-For: 2001:db8::1, 192.0.2.9",
				`Forwarded: for="[2001:db8::1]", for=192.0.2.9;host=a.example;proto=http`,
			),
		},
		{
			name: "a trusted proxy that says nothing is itself the client",
			in:   in(),
			f:    forwarding{Client: client("192.0.2.9", "192.0.2.9", true, false)},
			out:  out(),
		},
		{
			name: "over TLS the scheme is https, and IPv6 is quoted in Forwarded alone",
			in:   in(),
			f:    forwarding{Client: client("2001:db8::7", "2001:db8::7", false, true)},
			out: replaced(
				"X-Forwarded-For: 2001:db8::7",
				"X-Forwarded-Proto: https",
				`Forwarded: for="[2001:db8::7]";host=a.example;proto=https`,
			),
		},
		{
			name: "a handshake keeps its upgrade, without extensions",
			in:   in("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: k", "Sec-WebSocket-Extensions: permessage-deflate"),
			f:    forwarding{Upgrade: true},
			out:  slices.Insert(out("Sec-WebSocket-Key: k"), 8, "Connection: Upgrade", "Upgrade: websocket"),
		},
		{
			name: "a framed stream is asked for without content coding",
			in:   in("Accept-Encoding: gzip, br", "Accept: x"),
			f:    forwarding{Identity: true},
			out:  slices.Insert(out("Accept: x"), 8, "Accept-Encoding: identity"),
		},
	} {
		src := head(t, c.in...)
		if !c.f.Client.Peer.IsValid() {
			c.f.Client = stranger
		}
		c.f.ID = NewRequestID(src, c.f.Client.Trusted)
		before := strings.Join(fields(src), "\n")
		if got := fields(forward(t, src, c.f)); !slices.Equal(got, c.out) {
			t.Errorf("%s:\n got %s\nwant %s", c.name, strings.Join(got, "\n     "), strings.Join(c.out, "\n     "))
		}
		if strings.Join(fields(src), "\n") != before {
			t.Errorf("%s: the request itself was changed", c.name)
		}
	}
}

func TestForwardQuotesAHostWithAPort(t *testing.T) {
	src := head(t, "Host: [::1]:8080")
	dst := forward(t, src, forwarding{Client: client("::1", "::1", false, false), ID: NewRequestID(src, false)})
	if got, want := string(dst.Get("forwarded")), `for="[::1]";host="[::1]:8080";proto=http`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

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

var (
	madeTrace = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-00$`)
	madeID    = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

func TestForwardAllocatesNothing(t *testing.T) {
	src := head(t, "Host: a.example", "Accept: */*", "Connection: keep-alive", "User-Agent: x", "Cookie: a=b")
	f := forwarding{Client: client("192.0.2.9", "192.0.2.9", false, false), ID: NewRequestID(src, false)}
	var lines []byte
	var fw forwarder
	if n := testing.AllocsPerRun(100, func() { lines = fw.forward(lines[:0], src, f) }); n > 0 && !raced {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkForward(b *testing.B) {
	src := head(b, "Host: a.example", "Accept: */*", "Connection: keep-alive", "User-Agent: x", "Cookie: a=b")
	c := client("192.0.2.9", "192.0.2.9", false, false)
	var lines []byte
	var fw forwarder
	b.ReportAllocs()
	for b.Loop() {
		lines = fw.forward(lines[:0], src, forwarding{Client: c, ID: NewRequestID(src, false)})
	}
}

// FuzzForward: whatever a client sends that http1 accepts, the upstream gets a
// head that http1 accepts too, with one field of each kind that Weir vouches
// for and none that belongs to the client's connection.
func FuzzForward(f *testing.F) {
	f.Add("Connection: x, close\r\nX: 1\r\nTE: trailers\r\nTrailer: Host, X-Y", false)
	f.Add("X-Forwarded-For: 1.1.1.1\r\nForwarded: for=\"a\r\nX_Forwarded_Host: b\r\nTraceparent: "+traceparent, true)
	f.Fuzz(func(t *testing.T, lines string, trusted bool) {
		raw := []byte("GET / HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n\r\n")
		end := bytes.Index(raw, []byte("\r\n\r\n")) + 4
		src, dst := new(http1.Request), new(http1.Request)
		if _, err := src.Parse(raw[:end]); err != nil {
			return
		}
		head := sent(src, forwarding{Client: client("192.0.2.1", "192.0.2.9", trusted, false), ID: NewRequestID(src, trusted)})
		if _, err := dst.Parse(head); err != nil {
			t.Fatalf("%v:\n%s", err, head)
		}
		count := map[string]int{}
		for _, l := range fields(dst) {
			name, _, _ := strings.Cut(l, ":")
			if l == "Connection: TE" && string(dst.Get("te")) == "trailers" {
				continue // Weir's own
			}
			count[strings.ReplaceAll(strings.ToLower(name), "_", "-")]++
		}
		for _, name := range []string{"host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "x-request-id", "traceparent"} {
			if count[name] != 1 {
				t.Errorf("%d of %s:\n%s", count[name], name, head)
			}
		}
		for _, name := range []string{"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "expect", "content-length", "proxy"} {
			if count[name] != 0 {
				t.Errorf("%d of %s:\n%s", count[name], name, head)
			}
		}
	})
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
