package stream

import (
	"io"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"weir/hostabi"
)

func TestHeadersOfTheAnswer(t *testing.T) {
	r := newRig(t, answering(t, strings.ReplaceAll(`HTTP/1.1 200 Fine
Date: Mon, 01 Jan 2024 00:00:00 GMT
Connection: X-Secret
X-Secret: 1
Link: 1
Keep-Alive: timeout=5
Set-Cookie: a=1; Path=/
Link: 2
Proxy-Authenticate: x
Set-Cookie: b="2"
Upgrade: h2c
X-Request-Id: theirs
Link: 3
Content-Length: 2

ok`, "\n", "\r\n")))
	resp, body, err := r.get()
	if err != nil || string(body) != "ok" || resp.Status != "200 Fine" {
		t.Errorf("%s %q %v", resp.Status, body, err)
	}
	for name, want := range map[string][]string{
		"Date":               {"Mon, 01 Jan 2024 00:00:00 GMT"},
		"Link":               {"1", "2", "3"},
		"Set-Cookie":         {"a=1; Path=/", `b="2"`},
		"X-Request-Id":       {"theirs"},
		"Content-Length":     {"2"},
		"X-Secret":           nil,
		"Keep-Alive":         nil,
		"Proxy-Authenticate": nil,
		"Upgrade":            nil,
		"Connection":         nil,
		"Content-Type":       nil,
		"Server":             nil,
	} {
		if got := resp.Header[name]; !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// What a proxy asks of those who chose it, and gets from them, is for no one behind it
// (RFC 9110 §11.7); what a server asks is for clients.
func TestProxyAuthenticationStaysHere(t *testing.T) {
	r := newRig(t, script(t, func(p *peer) {
		if req := p.request(); req.Header["Proxy-Authorization"] != nil || req.Header.Get("Authorization") != "x" {
			t.Errorf("the upstream got %v", req.Header)
		}
		p.send("HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nProxy-Authentication-Info: a\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
	}))
	resp, _, err := r.exchange("GET / HTTP/1.1\r\nHost: a\r\nProxy-Authorization: x\r\nAuthorization: x\r\n\r\n")
	if h := resp.Header; resp.StatusCode != 407 || h["Proxy-Authenticate"] != nil || h["Proxy-Authentication-Info"] != nil || h.Get("WWW-Authenticate") != "Basic" || err != nil {
		t.Errorf("%s %v, %v", resp.Status, h, err)
	}
}

// Whoever passes on an answer that does not say when it was given says when it
// came (RFC 9110 §6.6.1).
func TestAnswersWithoutADateGetOne(t *testing.T) {
	r := newRig(t, answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	before := time.Now().Truncate(time.Second)
	resp, _, err := r.get()
	if err != nil {
		t.Fatal(err)
	}
	dates := resp.Header["Date"]
	if len(dates) != 1 {
		t.Fatalf("Date: %q", dates)
	}
	if date, err := http.ParseTime(dates[0]); err != nil || date.Before(before) || date.After(time.Now()) {
		t.Errorf("Date: %q, %v", dates[0], err)
	}
}

// Who gets a request that goes no further is the one to answer it (RFC 9110
// §7.6.2).
func TestMaxForwards(t *testing.T) {
	r := newRig(t, script(t, func(p *peer) {
		req := p.request()
		p.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nForwards: " + req.Header.Get("Max-Forwards") + "\r\n\r\n1")
	}))
	for _, c := range []struct {
		method, fields string
		status         int
		forwards       string
	}{
		{"OPTIONS", "Max-Forwards: 0\r\n", 204, ""},
		{"OPTIONS", "Max-Forwards: 3\r\nMax-Forwards: 0\r\n", 204, ""},
		{"TRACE", "Max-Forwards: 0\r\n", 501, ""},
		{"OPTIONS", "Max-Forwards: 1\r\n", 200, "0"},
		{"TRACE", "Max-Forwards: 18446744073709551615\r\n", 200, "18446744073709551614"},
		{"GET", "Max-Forwards: 0\r\n", 200, "0"},
	} {
		resp, _, err := r.exchange(c.method + " / HTTP/1.1\r\nHost: a\r\n" + c.fields + "\r\n")
		if err != nil {
			t.Fatalf("%s, %q: %v", c.method, c.fields, err)
		}
		if got := resp.Header.Get("Forwards"); resp.StatusCode != c.status || got != c.forwards {
			t.Errorf("%s, %q: %s, forwarded with %q", c.method, c.fields, resp.Status, got)
		}
	}
	for status, want := range map[int]float64{200: 5, 501: 1} {
		if n := testutil.ToFloat64(r.metrics.HTTPRequests(status)); n != want {
			t.Errorf("%v requests are counted as %d, want %v", n, status, want)
		}
	}
}

func TestHeadersOfTheRequest(t *testing.T) {
	seen := make(chan *http.Request, 1)
	r := newRig(t, script(t, func(p *peer) {
		seen <- p.request()
		p.send("HTTP/1.1 204 No Content\r\n\r\n")
	}))
	r.trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	if _, _, err := r.exchange("GET /a?b HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: close, X\r\nX: 1\r\nCookie: a=\"b\"\r\nTraceparent: " + traceparent + "\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	req := <-seen
	if req.Host != "a.example" || req.RequestURI != "/a?b" {
		t.Errorf("host %q, target %q", req.Host, req.RequestURI)
	}
	for name, want := range map[string][]string{
		"X-Forwarded-For":   {"192.0.2.1, 127.0.0.1"},
		"X-Forwarded-Proto": {"http"},
		"X-Forwarded-Host":  {"a.example"},
		"Forwarded":         {"for=192.0.2.1, for=127.0.0.1;host=a.example;proto=http"},
		"Traceparent":       {traceparent},
		"Cookie":            {`a="b"`},
		"Via":               {"1.1 weir"},
		"X":                 nil,
	} {
		if got := req.Header[name]; !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	r.await(1)
	if len(r.logs.lines("http exchange", "peer=192.0.2.1 ")) != 1 {
		t.Errorf("no line names the client: %q", r.logs.lines())
	}
}

func TestHead(t *testing.T) {
	r := newRig(t, script(t, func(p *peer) {
		for range 2 {
			if req := p.request(); req.Method != "HEAD" {
				t.Errorf("method %s", req.Method)
			}
			p.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
		}
	}))
	client := r.dial()
	for range 2 { // the connection lives on
		client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
		if resp := client.response("HEAD"); resp.StatusCode != 200 || resp.ContentLength != 5 {
			t.Errorf("%s, length %d", resp.Status, resp.ContentLength)
		}
	}
}

func TestAnswersWithoutABody(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	} {
		r := newRig(t, answering(t, answer))
		client := r.dial()
		for range 2 {
			client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			resp := client.response("GET")
			if resp.StatusCode == 103 {
				resp = client.response("GET")
			}
			if b, err := io.ReadAll(resp.Body); len(b) > 0 || err != nil || resp.Close {
				t.Errorf("%q: %q, %v, close %v", answer, b, err, resp.Close)
			}
		}
	}
}

func TestInterimAnswersPass(t *testing.T) {
	const (
		get   = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
		hints = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
		final = "HTTP/1.1 204 No Content\r\nDate: x\r\n\r\n"
		close = "HTTP/1.1 204 No Content\r\nDate: x\r\nConnection: close\r\n\r\n"
	)
	f := func(request, answer, want string) {
		t.Helper()
		client := newRig(t, answering(t, answer)).dial()
		for range 2 { // whether the connection to the upstream lives on or not
			client.send("%s", request)
			client.text(want)
			if strings.HasSuffix(want, close) {
				break
			}
		}
	}
	f(get, hints+final, hints+final)
	f(get, "HTTP/1.1 102 Processing\r\n\r\n"+hints+final, "HTTP/1.1 102 Processing\r\n\r\n"+hints+final)
	f(get, "HTTP/1.1 100 Continue\r\n\r\n"+hints+"HTTP/1.1 100 Continue\r\n\r\n"+final, hints+final) // nobody asked for those
	f(get, "HTTP/1.1 103 Early Hints\r\nConnection: X\r\nX: y\r\nUpgrade: z\r\nKeep-Alive: a\r\nLink: x\r\n\r\n"+final, hints+final)
	f(get, "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nLink: x\r\n\r\n"+final, hints+final) // a 1xx has no body
	f(get, "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\nLink: x\r\n\r\n"+final, hints+final)
	f("GET / HTTP/1.0\r\nHost: a\r\n\r\n", hints+final, close)
	f("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", hints+final, hints+close)
}

// Whatever follows them, the client has no more than sixteen, and one answer.
func TestInterimAnswersOfAHostileUpstream(t *testing.T) {
	const hints = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
	f := func(answer string, passed int, want hostabi.FaultCode) {
		t.Helper()
		r := newRig(t, script(t, func(p *peer) {
			p.request()
			p.send("%s", answer)
		}))
		client := r.dial()
		client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		client.text(strings.Repeat(hints, passed))
		resp := client.response("GET")
		refusal(t, resp, want, 502)
		if link := resp.Header.Get("Link"); link != "" {
			t.Errorf("what was hinted at is said of the refusal: %q", link)
		}
		r.await(1)
	}
	f(strings.Repeat(hints, 1000), 16, hostabi.UpstreamClosed)
	f(hints, 1, hostabi.UpstreamClosed) // and the end
	f(hints+"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", 1, hostabi.UpstreamClosed)
	f("HTTP/1.1 103 Early Hints\r\nLink: x\r\nContent-Length: 5\r\n\r\nhello", 1, hostabi.UpstreamClosed)
	f("HTTP/1.1 103 Early Hints\r\nX: "+strings.Repeat("x", 40<<10)+"\r\n\r\n", 0, hostabi.UpstreamClosed)
}

func TestTrailers(t *testing.T) {
	trailers := make(chan http.Header, 1)
	r := newRig(t, script(t, func(p *peer) {
		req := p.request()
		_, _ = io.Copy(io.Discard, req.Body)
		trailers <- req.Trailer
		p.send("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n")
	}))
	resp, body, err := r.exchange("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Count\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Count: 3\r\n\r\n")
	if err != nil || string(body) != "ok" || resp.Trailer.Get("X-Sum") != "1" {
		t.Errorf("%q %v %v", body, resp.Trailer, err)
	}
	if got := (<-trailers).Get("X-Count"); got != "3" {
		t.Errorf("the upstream got X-Count %q", got)
	}
}

// RFC 9110 §7.6.1: a field that Connection lists goes from the trailer, too; and what
// names the request does so once, since many a server takes trailers for fields of the head.
func TestTrailersHoldWhatMayGoOn(t *testing.T) {
	trailers := make(chan http.Header, 1)
	r := newRig(t, script(t, func(p *peer) {
		req := p.request()
		_, _ = io.Copy(io.Discard, req.Body)
		trailers <- req.Trailer
		p.send("HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nx-hop: 1\r\nProxy-Load: 1\r\n\r\n")
	}))
	resp, body, err := r.exchange("POST / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n" +
		"X-Request-Id: mine\r\nX_Request_ID: mine\r\nTraceparent: 00-1\r\nTracestate: a=b\r\nX-HOP: 1\r\nProxy-Load: 1\r\nX-Count: 3\r\n\r\n")
	if want := (http.Header{"X-Sum": {"1"}}); err != nil || string(body) != "ok" || !reflect.DeepEqual(resp.Trailer, want) {
		t.Errorf("the client got %q %v, %v", body, resp.Trailer, err)
	}
	if got, want := <-trailers, (http.Header{"X-Count": {"3"}}); !reflect.DeepEqual(got, want) {
		t.Errorf("the upstream got %v", got)
	}
}

// A recipient may discard trailer fields (RFC 9112 §7.1.2): an answer is not lost for one.
func TestAnAnswerIsNotLostForItsTrailer(t *testing.T) {
	f := func(announced string) {
		t.Helper()
		r := newRig(t, answering(t, "HTTP/1.1 200 OK\r\nTrailer: "+announced+"\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"+
			"Content-Type: text/html\r\nContent-Length: 5\r\nSet-Cookie: a=b\r\nX-Sum: 1\r\n\r\n"))
		resp, body, err := r.get()
		if want := (http.Header{"X-Sum": {"1"}}); err != nil || resp.StatusCode != 200 || string(body) != "ok" || !reflect.DeepEqual(resp.Trailer, want) {
			t.Errorf("%q: %d %q %v, %v", announced, resp.StatusCode, body, resp.Trailer, err)
		}
	}
	f("X-Sum")
	f("X-Sum, Content-Type")
	f("Content-Length")
	f("")
}
