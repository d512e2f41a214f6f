package gateway

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/proxy/nettest"
)

const plainRoute = demoUpstream + `
[[route]]
name = "demo"
upstream = "demo"
`

func TestHTTPGoesThrough(t *testing.T) {
	r := start(t, plainRoute)
	if status, body := r.get("/echo"); status != 200 || !strings.Contains(body, `"/echo"`) {
		t.Errorf("GET /echo: %d %s", status, body)
	}
}

func TestNoRouteIsProblemJSON(t *testing.T) {
	r := start(t, demoUpstream+`
[[route]]
name = "api"
path = "/api"
upstream = "demo"
`)
	status, body := r.get("/nowhere")
	var p struct {
		Code      string `json:"code"`
		Status    int    `json:"status"`
		Retryable *bool  `json:"retryable"`
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatal(err)
	}
	if logs := r.logs.String(); !strings.Contains(logs, `"peer":"127.0.0.1:`) || !strings.Contains(logs, `"method":"GET","path":"/nowhere"`) {
		t.Errorf("the log does not say who asked for what: %s", logs)
	}
	if status != 404 || p.Code != "no_route" || p.Status != 404 || p.Retryable == nil || *p.Retryable {
		t.Errorf("%d %s", status, body)
	}
}

// OPTIONS * asks no upstream, and no route need match it.
func TestOptionsOfTheServer(t *testing.T) {
	r := start(t, demoUpstream+"[[route]]\npath = \"/api\"\nupstream = \"demo\"\n")
	c := nettest.Dial(t, r.g.Addr().String())
	if _, err := io.WriteString(c, "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 204 No Content\r\n") || !strings.HasSuffix(string(got), "\r\n\r\n") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWebSocketGoesThrough(t *testing.T) {
	r := start(t, plainRoute)
	c := r.ws("/ws")
	c.SetReadLimit(-1)
	for i := range 10 {
		if err := echo(t.Context(), c, strings.Repeat("x", 1<<(2*i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(4000, "done"); err != nil {
		t.Error(err)
	}
	until(t, "the tunnel is forgotten", func() bool { return len(r.g.open()) == 0 })
	if logs := r.logs.String(); !strings.Contains(logs, `"msg":"upgraded"`) || !strings.Contains(logs, `"msg":"closed"`) {
		t.Errorf("no upgrade or close line in %s", logs)
	}
}

func TestOriginsThatAreNotAllowed(t *testing.T) {
	r := start(t, plainRoute+`allowed_origins = ["https://good.example"]`)
	for origin, want := range map[string]int{"https://good.example": 101, "https://GOOD.example": 101, "https://evil.example": 403, "null": 403, "": 101} {
		var header []string
		if origin != "" {
			header = []string{"Origin", origin}
		}
		c, res, err := r.dial("/ws", header...)
		if res == nil {
			t.Fatalf("origin %q: %v", origin, err)
		}
		if res.StatusCode != want {
			t.Errorf("origin %q: %d, want %d", origin, res.StatusCode, want)
		}
		if c != nil {
			_ = c.CloseNow()
		}
	}
}

// A request has the timeouts of its route, not those of the server.
func TestTimeoutsOfARoute(t *testing.T) {
	r := start(t, plainRoute+`limits = { idle_timeout = "20ms" }`)
	c := nettest.Dial(t, r.g.Addr().String())
	_ = c.SetDeadline(time.Now().Add(patience / 2)) // the server's is five minutes
	if _, err := io.WriteString(c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != 400 {
		t.Errorf("%v, %v", res, err)
	}
}

// Which of two is the page's, nobody knows.
func TestTwoOrigins(t *testing.T) {
	for _, allowed := range []string{"https://good.example", "*"} {
		r := start(t, plainRoute+`allowed_origins = ["`+allowed+`"]`)
		f := func(origins string, want int) {
			t.Helper()
			_, res := raw(t, r, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"+origins+"\r\n")
			if res.StatusCode != want {
				t.Errorf("%s allowed, %q: %d, want %d", allowed, origins, res.StatusCode, want)
			}
		}
		f("Origin: https://good.example\r\n", 101)
		f("Origin: https://good.example\r\nOrigin: https://evil.example\r\n", 403)
	}
}

func TestAnUpstreamsRefusalIsTheClients(t *testing.T) {
	body := strings.Repeat("no entry. ", 1000)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Why", "token")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, body)
	}))
	defer backend.Close()
	r := start(t, fmt.Sprintf(`
[upstream.u]
urls = [%q]
[[route]]
name = "r"
upstream = "u"
`, backend.URL))
	_, res := raw(t, r, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	got, _ := io.ReadAll(res.Body)
	if res.StatusCode != 401 || res.Header.Get("X-Why") != "token" || string(got) != body {
		t.Errorf("%d %q, %d bytes", res.StatusCode, res.Header.Get("X-Why"), len(got))
	}
}

// raw sends bytes and reads one answer.
func raw(t *testing.T, r *rig, request string) (net.Conn, *http.Response) {
	t.Helper()
	c := nettest.Dial(t, r.g.Addr().String())
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, res
}

func TestHandshakesThatAreNone(t *testing.T) {
	r := start(t, plainRoute)
	for what, f := range map[string]struct {
		fields string
		want   int
	}{
		"an old version": {"Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", 400},
		"no version":     {"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", 400},
		"two versions":   {"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", 400},
		"no key":         {"Sec-WebSocket-Version: 13\r\n", 400},
		"a short key":    {"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n", 400},
		"two keys":       {"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", 400},
	} {
		_, res := raw(t, r, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+f.fields+"\r\n")
		if res.StatusCode != f.want {
			t.Errorf("%s: %d, want %d", what, res.StatusCode, f.want)
		}
		if spoken := res.Header.Get("Sec-WebSocket-Version"); (spoken == "13") != strings.Contains(what, " version") {
			t.Errorf("%s: told that version %q is spoken (RFC 6455 §4.4)", what, spoken)
		}
	}
}

// What is for TLS comes by TLS, or by a trusted proxy (RFC 9110 §7.4).
func TestAnHTTPSURIWithoutTLS(t *testing.T) {
	r := start(t, plainRoute)
	f := func(target string, want int) {
		t.Helper()
		if _, res := raw(t, r, "GET "+target+" HTTP/1.1\r\nHost: x\r\n\r\n"); res.StatusCode != want {
			t.Errorf("%s: %d, want %d", target, res.StatusCode, want)
		}
	}
	f("https://x/", 400)
	f("http://x/", 200)
	r.reload("[server]", "[server]\n"+`trusted_proxies = ["127.0.0.1"]`, plainRoute)
	f("https://x/", 200)
}

func TestExtensionsAreNotNegotiated(t *testing.T) {
	r := start(t, plainRoute)
	_, res := raw(t, r, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
	if res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || res.Header.Get("Sec-WebSocket-Extensions") != "" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
}

// A line about a refusal says on which route, and whom a trusted proxy spoke for.
func TestRefusalsAreLoggedWithRouteAndClient(t *testing.T) {
	r := start(t, plainRoute)
	r.reload("[server]", "[server]\n"+`trusted_proxies = ["127.0.0.1"]`, plainRoute+"allowed_origins = [\"https://good.example\"]\n")
	if _, _, err := r.dial("/ws?token=secret", "Origin", "https://evil.example", "X-Forwarded-For", "192.0.2.7"); err == nil {
		t.Fatal("not refused")
	}
	const want = `"route":"demo","peer":"192.0.2.7","method":"GET","path":"/ws"`
	if logs := r.logs.String(); !strings.Contains(logs, want) || strings.Contains(logs, "secret") {
		t.Errorf("want %s in %s", want, logs)
	}
}

// A flood of refusals is counted one by one and told in a few lines.
func TestAFloodOfRefusalsIsNoFloodOfLines(t *testing.T) {
	r := start(t, demoUpstream+`
[[route]]
name = "api"
path = "/api"
upstream = "demo"
`)
	for range 200 {
		r.get("/nowhere")
	}
	if n := strings.Count(r.logs.String(), `"level":"WARN"`); n == 0 || n > 100 {
		t.Errorf("%d lines for 200 refusals", n)
	}
	if logs := r.logs.String(); !strings.Contains(logs, `"suppressed":`) {
		t.Errorf("no line says how many were suppressed: %s", logs)
	}
}

// A field that Connection lists is not shown to the policy where the upstream does not get
// it, and nowhere else; one with underscores was not, and CGI and WSGI took it for the other.
func TestAPolicySeesTheHeadersThatTheUpstreamDoes(t *testing.T) {
	r := start(t, strings.ReplaceAll(policyRoute("", ""), "{{module}}", standard(t))+`
[policy.p.config.admit]
rules = [
  { deny = true, header = "x-debug" },
  { deny = true, header = "upgrade", equals = "h2c" },
  { deny = true, header = "x-kind" },
  { deny = true, header = "x_level" },
  { deny = true, header = "sec-websocket-protocol" },
  { deny = true, header = "content-length" },
  { deny = true, header = "x-request-id", equals = "other" },
  { deny = true, header = "x-token", absent = true },
]
`)
	for fields, want := range map[string]string{
		"X-Token: 1": "200",
		"X-Token: 1\r\nConnection: keep-alive, x-other":                                 "200",
		"X-Token: 1\r\nx_other: 1":                                                      "200",
		"X-Token: 1\r\nX-Debug: 1":                                                      "403",
		"X-Token: 1\r\nX-Debug: 1\r\nConnection: X-Debug":                               "200", // it goes no further
		"X-Token: 1\r\nX-Level: 1":                                                      "400",
		"X-Token: 1\r\nX_Level: 1":                                                      "403",
		"X-Token: 1\r\nX_Debug: 1":                                                      "400",
		"X_token: 1":                                                                    "400",
		"X-Token: 1\r\nX.Debug: 1":                                                      "400", // lighttpd has all of these for "_"
		"X-Token: 1\r\nX~Debug: 1":                                                      "400",
		"X-Token: 1\r\nX.Other: 1":                                                      "200",
		"X-Token: 1\r\nConnection: keep-alive, x-tOKEN":                                 "403",
		"X-Token: 1\r\nConnection: upgrade, host\r\nUpgrade: other":                     "200",
		"X-Token: 1\r\nConnection: upgrade\r\nUpgrade: h2c":                             "403",
		"X-Token: 1\r\nX-Debug: 1\r\nConnection: \"a, X-Debug, b\"":                     "403", // of a quoted string nothing is listed
		"X-Token: 1\r\nX-Kind: 1\r\nConnection: X-\u212aind":                            "403",
		"X-Token: 1\r\nX-Kind: 1\r\nConnection: X-K\u0130nd":                            "403",
		"X-Token: 1\r\nX-Kind: 1\r\nConnection: x-kind\u0085, \u00a0x-kind":             "403", // white space of Unicode
		"X-Token: 1\r\nX-Kind: 1\r\nConnection: x-kind":                                 "200",
		"X-Token: 1\r\nSec-WebSocket-Protocol: a\r\nConnection: sec-websocket-protocol": "403", // none can list it
		"X-Token: 1\r\nX-Request-Id: other\r\nConnection: x-request-id":                 "403",
		"X-Token: 1\r\nContent-Length: 0\r\nConnection: content-length":                 "403",
	} {
		c := nettest.Dial(t, r.g.Addr().String())
		if _, err := fmt.Fprintf(c, "GET /echo HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", fields); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || !strings.HasPrefix(resp.Status, want) {
			t.Errorf("%q: %v, %v, want %s", fields, resp, err, want)
		}
	}
}

// Many a server takes trailers for fields of the head, which the policy judges before a
// trailer is here.
func TestNoTrailerHasWhatThePolicyLooksAt(t *testing.T) {
	trailers := make(chan http.Header, 1)
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		trailers <- req.Trailer
	}))
	t.Cleanup(upstream.Close)
	toml := strings.Replace(strings.ReplaceAll(policyRoute("", ""), "{{module}}", standard(t)), `urls = ["demo:"]`, fmt.Sprintf("urls = [%q]", upstream.URL), 1)
	r := start(t, toml+`
[policy.p.config.admit]
rules = [{ deny = true, header = "x-debug" }, { deny = true, header = "x_level" }]
`)
	c := nettest.Dial(t, r.g.Addr().String())
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"+
		"X-Debug: 1\r\nX_DEBUG: 1\r\nX.Debug: 1\r\nX-Level: 1\r\nX_Level: 1\r\nX-Count: 1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	if got, want := <-trailers, (http.Header{"X-Count": {"1"}}); !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("the upstream got %v", got)
	}
}

// Of a trusted proxy's X-Forwarded-* the upstream gets what Connection does not list, but
// for those that Weir writes.
func TestAPolicySeesWhatATrustedProxyForwards(t *testing.T) {
	toml := strings.ReplaceAll(policyRoute("", ""), "{{module}}", standard(t)) + `
[policy.p.config.admit]
rules = [
  { deny = true, header = "x-forwarded-user", absent = true },
  { deny = true, header = "x-forwarded-proto", absent = true },
]
`
	r := start(t, plainRoute)
	r.reload("[server]", "[server]\n"+`trusted_proxies = ["127.0.0.1"]`, toml)
	for listed, want := range map[string]int{"x-other": 200, "X-Forwarded-Proto": 200, "X-Forwarded-User": 403} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, r.base+"/echo", http.NoBody)
		req.Header = http.Header{"X-Forwarded-User": {"ann"}, "X-Forwarded-Proto": {"https"}, "Connection": {listed}}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", listed, resp.StatusCode, want)
		}
	}
}
