package stream

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/http1"
	"weir/proxy/nettest"
	"weir/proxy/policy"
)

// problem is Weir's native envelope.
type problem struct {
	Type, Title, Detail, Code string
	Status                    int
	Retryable                 bool
	RetryAfterMS              int64 `json:"retry_after_ms"`
	Limit, Actual             int64
	TraceID                   string `json:"trace_id"`
}

// refusal checks what every refusal has and returns its envelope.
func refusal(t *testing.T, resp *http.Response, code hostabi.FaultCode, status int) (p problem) {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &p); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	if resp.StatusCode != status || p.Status != status || p.Code != string(code) {
		t.Errorf("got %d, %+v; want %d %s", resp.StatusCode, p, status, code)
	}
	for name, want := range map[string]string{"Content-Type": "application/problem+json", "Cache-Control": "no-store"} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if len(p.TraceID) != 32 || resp.Header.Get("X-Request-Id") == "" {
		t.Errorf("trace id %q, request id %q", p.TraceID, resp.Header.Get("X-Request-Id"))
	}
	return p
}

func TestUpstreamsThatFail(t *testing.T) {
	refused := func(t *testing.T) string { return nettest.Refusing(t) }
	saying := func(answer string) func(*testing.T) string {
		return func(t *testing.T) string {
			return script(t, func(p *peer) {
				p.request()
				p.send("%s", answer)
			})
		}
	}
	silent := func(t *testing.T) string {
		return script(t, func(p *peer) {
			p.request()
			_, _ = p.br.ReadByte()
		})
	}
	for _, c := range []struct {
		name    string
		backend func(*testing.T) string
		code    hostabi.FaultCode
		status  int
	}{
		{"nobody listens", refused, hostabi.UpstreamUnavailable, 502},
		{"no answer in time", silent, hostabi.UpstreamTimeout, 504},
		{"closed before the head", saying(""), hostabi.UpstreamClosed, 502},
		{"closed within the head", saying("HTTP/1.1 200 OK\r\nContent-"), hostabi.UpstreamClosed, 502},
		{"not HTTP", saying("hello\r\n\r\n"), hostabi.UpstreamClosed, 502},
		{"two lengths", saying("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), hostabi.UpstreamClosed, 502},
		{"an upgrade that nobody asked for", saying("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), hostabi.UpstreamClosed, 502},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.backend(t), func(_ *rig, u *config.Upstream) {
				if c.code == hostabi.UpstreamTimeout {
					u.ResponseTimeout = 50 * time.Millisecond
				}
			})
			client := r.dial()
			client.send("GET /a?token=secret HTTP/1.1\r\nHost: a\r\nTraceparent: " + traceparent + "\r\nX-Request-Id: r-1\r\n\r\n")
			resp := client.response("GET")
			p := refusal(t, resp, c.code, c.status)
			if !p.Retryable || p.TraceID != trace || resp.Header.Get("X-Request-Id") != "r-1" || resp.Close {
				t.Errorf("%+v, %v", p, resp.Header)
			}
			if c.code == hostabi.UpstreamTimeout && p.Detail != "the upstream did not answer within 50ms (response_timeout)" {
				t.Errorf("told %q", p.Detail)
			}
			if r.faults(c.code) != 1 {
				t.Errorf("counted %d", r.faults(c.code))
			}
			if n := len(r.logs.lines("level=WARN", "http fault", "code="+string(c.code), "trace_id="+trace, "request_id=r-1", "error=",
				"route=r", "peer="+client.LocalAddr().String(), "method=GET", "path=/a")); n != 1 {
				t.Errorf("%d log lines", n)
			}
			if told := r.logs.lines("secret"); len(told) > 0 {
				t.Errorf("a query is in the log: %q", told)
			}
			// The connection serves on.
			client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
			if resp := client.response("HEAD"); resp.StatusCode != c.status || resp.ContentLength <= 0 {
				t.Errorf("HEAD: %s, length %d", resp.Status, resp.ContentLength)
			}
		})
	}
}

func TestAnAnswerThatEndsEarlyIsNeverEndedCleanly(t *testing.T) {
	for name, answer := range map[string]string{
		"within a known length":    "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
		"within a chunk":           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
		"between chunks":           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
		"with a bad chunk":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n",
		"within the trailer":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: 1\r\n",
		"an error within its body": "HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\nabc",
	} {
		t.Run(name, func(t *testing.T) {
			up := script(t, func(p *peer) {
				p.request()
				p.send("%s", answer)
			})
			r := newRig(t, up)
			_, body, err := r.get()
			if string(body) != "abc" || err != io.ErrUnexpectedEOF {
				t.Errorf("%q, %v", body, err)
			}
			r.await(1)
			message, cause := "ended early", "closed: unexpected EOF"
			if name == "with a bad chunk" {
				message, cause = "not valid HTTP", "protocol: a chunk size that is not hexadecimal"
			}
			if r.faults(hostabi.UpstreamClosed) != 1 || len(r.logs.lines("level=WARN", "code=upstream_closed", message, "upstream http://"+up+": "+cause)) != 1 {
				t.Errorf("counted %d, logged %q", r.faults(hostabi.UpstreamClosed), r.logs.lines())
			}
		})
	}
}

func TestHTTP10ClientsSeeAnAbortAsAReset(t *testing.T) {
	r := newRig(t, script(t, func(p *peer) {
		p.request()
		p.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX: 1\r\n\r\nabc")
	}))
	r.route.View = (*policy.Policy)(nil).View("r")
	c := r.dial()
	c.send("GET / HTTP/1.0\r\n\r\n")
	if all, err := io.ReadAll(c.br); err == nil && !strings.Contains(string(all), "Content-Length: 9") {
		t.Errorf("%q, without an error", all)
	}
}

func TestErrorAnswersPassByteForByte(t *testing.T) {
	const body = "{\"error\": \"x\"}\n"
	for _, status := range []string{"400 Bad Request", "404 Nope", "429 Slow Down", "500 Oops", "503 Later"} {
		r := newRig(t, answering(t, "HTTP/1.1 "+status+"\r\nContent-Type: a/b\r\nX-Type: T\r\nContent-Length: 15\r\n\r\n"+body))
		resp, got, err := r.get()
		if resp.Status != status || string(got) != body || err != nil || resp.Header.Get("Content-Type") != "a/b" || resp.Header["Retry-After"] != nil {
			t.Errorf("%s: %s, %q, %v, %v", status, resp.Status, got, resp.Header, err)
		}
		if n := len(r.logs.lines("level=WARN")); n > 0 {
			t.Errorf("%s: an upstream's error is no fault of Weir's: %q", status, r.logs.lines("level=WARN"))
		}
	}
}

// Upgrade is hop-by-hop, and what a 426 is about (RFC 9110 §15.5.22).
func TestTheUpgradeOfA426Passes(t *testing.T) {
	f := func(status, request, upgrade, connection string) {
		t.Helper()
		r := newRig(t, answering(t, "HTTP/1.1 "+status+"\r\nUpgrade: HTTP/3.0\r\nConnection: upgrade, X\r\nX: y\r\nContent-Length: 0\r\n\r\n"))
		client := r.dial()
		client.send(request + "\r\n\r\n")
		got := client.response("GET").Header
		if got.Get("Upgrade") != upgrade || strings.Join(got["Connection"], "|") != connection || got["X"] != nil {
			t.Errorf("%s to %q: %v", status, request, got)
		}
	}
	f("426 Upgrade Required", "GET / HTTP/1.1\r\nHost: a", "HTTP/3.0", "Upgrade")
	f("400 Bad Request", "GET / HTTP/1.1\r\nHost: a", "", "")
	f("200 OK", "GET / HTTP/1.1\r\nHost: a", "", "")
}

func TestThePolicySaysWhenToRetry(t *testing.T) {
	retryable := map[hostabi.Hook]encoded{hostabi.FaultHook: &hostabi.FaultOutput{Retryable: true, RetryAfterMS: 1500}}
	permanent := map[hostabi.Hook]encoded{hostabi.FaultHook: &hostabi.FaultOutput{RetryAfterMS: 1500}}
	for _, c := range []struct {
		name   string
		policy map[hostabi.Hook]encoded
		answer string
		want   []string // Retry-After
	}{
		{"an error that can be retried", retryable, "HTTP/1.1 503 X\r\nContent-Length: 2\r\n\r\nok", []string{"2"}},
		{"without a body", retryable, "HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n", []string{"2"}},
		{"the upstream knows better", retryable, "HTTP/1.1 503 X\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nok", []string{"7"}},
		{"an error that cannot", permanent, "HTTP/1.1 503 X\r\nContent-Length: 2\r\n\r\nok", nil},
		{"no error", retryable, "HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nok", nil},
	} {
		r := newRig(t, answering(t, c.answer), withView(viewOf(t, c.policy)))
		resp, _, err := r.get()
		if got := resp.Header["Retry-After"]; strings.Join(got, ",") != strings.Join(c.want, ",") || err != nil {
			t.Errorf("%s: %q, want %q (%v)", c.name, got, c.want, err)
		}
	}
}

func TestAnErrorDoesNotWaitForItsBody(t *testing.T) {
	policy := viewOf(t, map[hostabi.Hook]encoded{hostabi.FaultHook: &hostabi.FaultOutput{Retryable: true, RetryAfterMS: 1500}})
	for _, begun := range []string{"", "5\r\n", "5\r\nwha"} {
		rest := make(chan bool)
		r := newRig(t, script(t, func(p *peer) {
			p.request()
			p.send("HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n%s", begun)
			select {
			case <-rest:
				p.send("%s", "5\r\nwhat?\r\n0\r\n\r\n"[len(begun):])
			case <-time.After(patience):
			}
		}), withView(policy))
		client := r.dial()
		client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		resp := client.response("GET")
		if after := resp.Header.Get("Retry-After"); resp.StatusCode != 503 || after != "2" {
			t.Errorf("%d, Retry-After %q", resp.StatusCode, after)
		}
		close(rest)
		if body, err := io.ReadAll(resp.Body); string(body) != "what?" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
	}
}

// A reset where an error's body should begin is told once, and must not look like the
// end of a body without a length.
func TestAnErrorThatIsResetBeforeItsBodyIsCut(t *testing.T) {
	policy := viewOf(t, map[hostabi.Hook]encoded{hostabi.FaultHook: &hostabi.FaultOutput{Retryable: true, RetryAfterMS: 1500}})
	r := newRig(t, script(t, func(p *peer) {
		p.request()
		p.send("HTTP/1.1 503 X\r\n\r\n")
		_ = p.Conn.(*net.TCPConn).SetLinger(0)
	}), withView(policy))
	if resp, body, err := r.get(); resp.StatusCode != 503 || err == nil {
		t.Errorf("%d %q, %v", resp.StatusCode, body, err)
	}
}

func TestRefusalsAreInThePolicysDialect(t *testing.T) {
	r := newRig(t, answering(t, ""), withView(viewOf(t, map[hostabi.Hook]encoded{
		hostabi.FaultHook: &hostabi.FaultOutput{Retryable: true, RetryAfterMS: 1001},
		hostabi.ErrorHook: &hostabi.ErrorOutput{
			Template:    `{"e":{{code}},"m":{{message}},"after":{{retry_after_ms}}{{?limit}}{{?actual}}}`,
			ContentType: "application/json", Status: 418,
		},
	})))
	resp, body, err := r.exchange("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n")
	const want = `{"e":"payload_too_large","m":"request body of 9999999 bytes exceeds max_body_size 1048576","after":1001,"limit":1048576,"actual":9999999}`
	if string(body) != want || err != nil {
		t.Errorf("%s, %v", body, err)
	}
	if resp.StatusCode != 418 || resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Retry-After") != "2" {
		t.Errorf("%s, %v", resp.Status, resp.Header)
	}
	if _, err := http.ParseTime(resp.Header.Get("Date")); err != nil {
		t.Error(err)
	}
}

func TestRefuseTakesARetryHintOfItsOwn(t *testing.T) {
	r := newRig(t, answering(t, ""))
	srv := &http1.Server{Handler: func(x *http1.Exchange) {
		r.proxy.Refuse(x, r.route.View, Fault{Code: hostabi.Draining, RetryAfter: 2100 * time.Millisecond, ID: NewRequestID(&x.Req, false)})
	}}
	r.addr = nettest.Serve(t, func(c *net.TCPConn, _ int) { srv.ServeConn(c) })
	resp := r.dial()
	resp.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	answer := resp.response("GET")
	if p := refusal(t, answer, hostabi.Draining, 503); p.RetryAfterMS != 2100 || answer.Header.Get("Retry-After") != "3" {
		t.Errorf("%+v, %v", p, answer.Header)
	}
}

func TestAClientThatTakesNothingIsASlowConsumer(t *testing.T) {
	ended := make(chan bool)
	r := newRig(t, script(t, func(p *peer) {
		defer close(ended)
		p.request()
		p.send("HTTP/1.1 200 OK\r\n\r\n")
		for block := make([]byte, 64<<10); ; {
			if _, err := p.Write(block); err != nil {
				return
			}
		}
	}), func(r *rig, _ *config.Upstream) { r.writeTimeout = 100 * time.Millisecond })
	r.dial().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-ended
	r.await(1)
	if r.faults(hostabi.SlowConsumer) != 1 || len(r.logs.lines("level=WARN", "code=slow_consumer")) != 1 {
		t.Errorf("counted %d", r.faults(hostabi.SlowConsumer))
	}
}

// The last bytes of an answer are no others.
func TestAClientThatTakesNoEndIsASlowConsumer(t *testing.T) {
	body := strings.Repeat("x", 16<<10)
	r := newRig(t, answering(t, "HTTP/1.1 200 OK\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body),
		func(r *rig, _ *config.Upstream) { r.writeTimeout = 100 * time.Millisecond })
	for p := r.dial(); ; {
		if _, err := io.WriteString(p, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			break
		}
	}
	for len(r.logs.lines("level=WARN", "code=slow_consumer")) == 0 {
		r.await(1)
	}
	if n := r.faults(hostabi.SlowConsumer); n != 1 {
		t.Errorf("counted %d", n)
	}
}

func TestAClientThatTakesNoInterimAnswersIsASlowConsumer(t *testing.T) {
	hint := "HTTP/1.1 103 Early Hints\r\nLink: " + strings.Repeat("x", 16<<10) + "\r\n\r\n"
	r := newRig(t, answering(t, strings.Repeat(hint, 16)+"HTTP/1.1 204 No Content\r\n\r\n"),
		func(r *rig, _ *config.Upstream) { r.writeTimeout = 100 * time.Millisecond })
	for p := r.dial(); ; {
		if _, err := io.WriteString(p, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			break
		}
		r.await(1)
	}
	if n := r.faults(hostabi.SlowConsumer); n != 1 {
		t.Errorf("counted %d", n)
	}
}

// Whether a fault has a line is asked, and the line says how many had none.
func TestFaultsAreToldAsAllowed(t *testing.T) {
	var asked atomic.Int64
	r := newRig(t, "127.0.0.1:1", func(r *rig, _ *config.Upstream) {
		r.proxy.Allow = func(time.Time, hostabi.FaultCode) (int64, bool) { n := asked.Add(1); return n - 1, n%3 == 0 }
	})
	for range 6 {
		if resp, _, _ := r.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n"); resp.StatusCode != 413 {
			t.Fatal(resp.Status)
		}
	}
	if told := r.logs.lines("http fault"); len(told) != 2 || !strings.HasSuffix(told[0], " suppressed=2\n") || !strings.HasSuffix(told[1], " suppressed=5\n") {
		t.Errorf("told %q", told)
	}
	if n := r.faults(hostabi.PayloadTooLarge); n != 6 {
		t.Errorf("%d faults are counted", n)
	}
}
