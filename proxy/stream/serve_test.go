package stream

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"weir/hostabi"
	"weir/proxy/config"
)

func TestAnswersArriveAsTheyAreProduced(t *testing.T) {
	for name, c := range map[string]struct{ head, first, second, end string }{
		"server-sent events": {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", "data: 1\n\n", "data: 2\n\n", ""},
		"chunked":            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "3\r\nabc\r\n", "3\r\ndef\r\n", "0\r\n\r\n"},
		"of a known length":  {"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", "abc", "def", ""},
	} {
		t.Run(name, func(t *testing.T) {
			go1, go2 := make(chan bool), make(chan bool)
			r := newRig(t, script(t, func(p *peer) {
				p.request()
				p.send(c.head)
				<-go1
				p.send(c.first)
				<-go2
				p.send(c.second + c.end)
			}))
			client := r.dial()
			client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			resp := client.response("GET") // the head alone arrives first
			close(go1)
			plain := strings.NewReplacer("3\r\n", "", "\r\n", "")
			expect(t, resp.Body, plain.Replace(c.first))
			close(go2)
			expect(t, resp.Body, plain.Replace(c.second))
			if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
				t.Errorf("then %q, %v", rest, err)
			}
		})
	}
}

func TestRequestsArriveAsTheyAreSent(t *testing.T) {
	for name, c := range map[string]struct{ field, first, second, end string }{
		"chunked":           {"Transfer-Encoding: chunked", "3\r\nabc\r\n", "3\r\ndef\r\n", "0\r\n\r\n"},
		"of a known length": {"Content-Length: 6", "abc", "def", ""},
	} {
		t.Run(name, func(t *testing.T) {
			arrived := make(chan string)
			r := newRig(t, script(t, func(p *peer) {
				req := p.request()
				for range 2 {
					b := make([]byte, 3)
					_, _ = io.ReadFull(req.Body, b)
					arrived <- string(b)
				}
				_, _ = io.Copy(io.Discard, req.Body)
				p.send("HTTP/1.1 204 No Content\r\n\r\n")
			}))
			client := r.dial()
			client.send("POST / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n%s", c.field, c.first)
			if got := <-arrived; got != "abc" {
				t.Errorf("first %q", got)
			}
			client.send(c.second + c.end)
			if got := <-arrived; got != "def" {
				t.Errorf("then %q", got)
			}
			if resp := client.response("POST"); resp.StatusCode != 204 {
				t.Errorf("status %d", resp.StatusCode)
			}
		})
	}
}

func TestAnAnswerMayComeBeforeTheRequestIsOver(t *testing.T) {
	r := newRig(t, script(t, func(p *peer) {
		req := p.request()
		p.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for {
			b := make([]byte, 3)
			n, err := io.ReadFull(req.Body, b)
			if n > 0 {
				p.send("%x\r\n%s\r\n", n, b[:n])
			}
			if err != nil {
				break
			}
		}
		p.send("0\r\n\r\n")
	}))
	client := r.dial()
	client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	resp := client.response("POST")
	for _, word := range []string{"abc", "def", "ghi"} {
		client.send("3\r\n%s\r\n", word)
		expect(t, resp.Body, word)
	}
	client.send("0\r\n\r\n")
	if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
		t.Errorf("then %q, %v", rest, err)
	}
}

func TestBodiesAreNeverHeldWhole(t *testing.T) {
	const size = 64 << 20
	r := newRig(t, script(t, func(p *peer) {
		req := p.request()
		p.send("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
		_, _ = io.Copy(p.Conn, req.Body)
	}), withLimits(func(l *config.Limits) { l.MaxBodySize = size }))
	client := r.dial()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	in, out := sha256.New(), sha256.New()
	sent := make(chan error, 1)
	go func() {
		_, err := fmt.Fprintf(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size)
		block := []byte(strings.Repeat("0123456789abcdef", 4096))
		for n := 0; n < size && err == nil; n += len(block) {
			in.Write(block)
			_, err = client.Write(block)
		}
		sent <- err
	}()
	n, err := io.Copy(out, client.response("POST").Body)
	if n != size || err != nil || <-sent != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if string(in.Sum(nil)) != string(out.Sum(nil)) {
		t.Error("the bytes differ")
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 && !raced {
		t.Errorf("%d bytes were allocated for %d that passed", took, size)
	}
}

func TestAClientThatLeavesCancelsItsRequest(t *testing.T) {
	for name, c := range map[string]struct {
		request string
		answer  string // what the backend sends before the client leaves
		read    int    // bytes of its body that the client waits for
	}{
		"before the head":             {request: "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		"while the body is silent":    {request: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", read: 3},
		"after its request body":      {request: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", read: 3},
		"within its request body":     {request: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"},
		"within both bodies":          {request: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", read: 3},
		"while an error says nothing": {request: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", answer: "HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\n", read: -1},
	} {
		t.Run(name, func(t *testing.T) {
			asked, ended := make(chan bool), make(chan bool)
			r := newRig(t, script(t, func(p *peer) {
				defer close(ended)
				p.request()
				p.send(c.answer)
				close(asked)
				_, _ = io.Copy(io.Discard, p.br) // what is left of the body
				p.ended()
			}))
			client := r.dial()
			client.send(c.request)
			<-asked
			if c.read > 0 {
				expect(t, client.response("GET").Body, "abc"[:c.read])
			}
			client.Close()
			<-ended
			r.await(1)
			if found := r.logs.lines("level=WARN"); len(found) > 0 {
				t.Errorf("a client that leaves is no fault: %s", found)
			}
		})
	}
}

func TestAClientThatLeavesCancelsAnAnswerThatFlows(t *testing.T) {
	r := newRig(t, script(t, func(p *peer) {
		p.request()
		p.send("HTTP/1.1 200 OK\r\n\r\n")
		for block := make([]byte, 64<<10); ; {
			if _, err := p.Write(block); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the backend was left waiting")
				}
				return
			}
		}
	}))
	client := r.dial()
	client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	_, _ = io.CopyN(io.Discard, client.response("GET").Body, 1<<20)
	client.Close()
	r.await(1)
}

func TestASlowClientSlowsItsUpstream(t *testing.T) {
	const size = 256 << 20 // far more than all sockets take
	stalled := make(chan int, 1)
	r := newRig(t, script(t, func(p *peer) {
		p.request()
		p.send("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
		block, n := make([]byte, 64<<10), 0
		for n < size {
			_ = p.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)) // no progress for this long: it is stalled
			k, err := p.Write(block[:min(len(block), size-n)])
			if n += k; err != nil {
				select {
				case stalled <- n:
				default:
				}
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					return
				}
			}
		}
	}))
	client := r.dial()
	client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if n := <-stalled; n > size/4 {
		t.Errorf("%d bytes were taken from the upstream for a client that reads nothing", n)
	}
	_ = client.SetDeadline(time.Now().Add(2 * patience))
	if n, err := io.Copy(io.Discard, client.response("GET").Body); n != size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

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
	r.proxy.TrustedProxies = func() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }
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
		refusal(t, client.response("GET"), want, 502)
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

func TestManyExchangesOnOneConnection(t *testing.T) {
	r := newRig(t, answering(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"))
	client := r.dial()
	for i := range 50 {
		switch i % 3 {
		case 0:
			client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		case 1:
			client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
		case 2:
			client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
		}
		if b, err := io.ReadAll(client.response("GET").Body); string(b) != "ok" || err != nil {
			t.Fatalf("exchange %d: %q, %v", i, b, err)
		}
	}
	r.await(50)
	if n := len(r.logs.lines("level=DEBUG", "http exchange", "route=r", "peer="+client.LocalAddr().String(), "status=200", "bytes=2", "duration_ms=")); n != 50 {
		t.Errorf("%d debug lines, want one for each of 50 exchanges", n)
	}
	if lines := r.logs.lines("http exchange", "duration_ms=0 "); len(lines) > 0 {
		t.Errorf("took no time: %q", lines)
	}
}

func TestHTTP10ClientsGetWhatTheyKnow(t *testing.T) {
	r := newRig(t, answering(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"))
	c := r.dial()
	c.send("GET / HTTP/1.0\r\n\r\n")
	all, err := io.ReadAll(c.br)
	if err != nil || strings.Contains(string(all), "chunked") || !strings.HasSuffix(string(all), "\r\n\r\nok") {
		t.Errorf("%q, %v", all, err)
	}
}
