package gateway

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"weir/proxy/http1"
	"weir/proxy/metrics"
	"weir/proxy/nettest"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// What a 101 must say, and may not.
func TestCheckUpgrade(t *testing.T) {
	const key = "dGhlIHNhbXBsZSBub25jZQ==" // RFC 6455 §1.3
	const fine = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	f := func(head, why string) {
		t.Helper()
		head += "\r\n"
		var resp http1.Response
		info, err := resp.Parse([]byte(head), []byte("GET"))
		if err != nil {
			t.Fatal(err)
		}
		switch err := checkUpgrade(&resp, &info, key, []string{"chat", "other"}); {
		case why == "" && err != nil, why != "" && (err == nil || !strings.Contains(err.Error(), why)):
			t.Errorf("%q: %v, want %q", head, err, why)
		}
	}
	f(fine, "")
	f(fine+"Sec-WebSocket-Protocol: chat\r\nContent-Length: 0\r\n", "")
	f(strings.Replace(fine, "Upgrade: WebSocket\r\n", "", 1), "Upgrade is")
	f(strings.Replace(fine, "WebSocket\r\n", "h2c\r\n", 1), "Upgrade is")
	f(fine+"Upgrade: h2c\r\n", "Upgrade is")
	f(strings.Replace(fine, "keep-alive, Upgrade", "keep-alive", 1), "Connection is")
	f(strings.Replace(fine, "Connection: keep-alive, Upgrade\r\n", "", 1), "Connection is")
	f(strings.Replace(fine, "s3pP", "S3pP", 1), "Sec-WebSocket-Accept is")
	f(fine+"Sec-WebSocket-Extensions: permessage-deflate\r\n", "were not offered")
	f(fine+"Sec-WebSocket-Accept: other\r\n", "Sec-WebSocket-Accept is")
	f(fine+"Sec-WebSocket-Extensions:\r\nSec-WebSocket-Extensions: permessage-deflate\r\n", "were not offered")
	f(fine+"Sec-WebSocket-Protocol: secret\r\n", "was not offered")
	f(fine+"Sec-WebSocket-Protocol: chat, other\r\n", "was not offered")
	// A letter that Unicode folds, and white space that only Unicode knows, are other bytes.
	f(strings.Replace(fine, "WebSocket\r\n", "web\u017focket\r\n", 1), "Upgrade is")
	f(strings.Replace(fine, ", Upgrade\r\n", ", Upgrade\u00a0\r\n", 1), "Connection is")
	f(fine+"Sec-WebSocket-Protocol: chat\u0085\r\n", "was not offered")
	f(fine+"Content-Length: 5\r\n", "announces a body")
	f(fine+"Transfer-Encoding: chunked\r\n", "announces a body")
}

// A client that leaves within its handshake is counted nowhere any more.
func TestAClientThatLeavesItsHandshake(t *testing.T) {
	l := nettest.Listen(t) // accepts, in the kernel, and never answers
	r := start(t, "[upstream.silent]\nurls = [\"http://"+l.Addr().String()+"\"]\n[[route]]\nupstream = \"silent\"\n")
	connections := func(s metrics.State) float64 { return testutil.ToFloat64(r.g.metrics.Connections(s)) }
	for range 3 {
		c := nettest.Dial(t, r.g.Addr().String())
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		until(t, "the handshake is under way", func() bool { return connections(metrics.StateHandshake) == 1 })
		_ = c.Close()
		until(t, "the handshake is over", func() bool { return connections(metrics.StateHandshake) == 0 })
	}
	r.stop() // nothing is under way any more
	if n := connections(metrics.StateHTTP); n != 0 {
		t.Errorf("%v connections are counted, none is open", n)
	}
}

// What an upstream says that does not speak WebSocket stays here.
func TestA101ThatIsNone(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "h2c")
		w.WriteHeader(http.StatusSwitchingProtocols)
	}))
	defer upstream.Close()
	r := start(t, "[upstream.u]\nurls = [\""+upstream.URL+"\"]\n[[route]]\nupstream = \"u\"\n")
	_, res, err := r.dial("/")
	if err == nil || res == nil || res.StatusCode != http.StatusBadGateway || res.Header.Get("Upgrade") != "" {
		t.Errorf("%v, %v", res, err)
	}
}

// Of a 101, what is about the upstream's connection stays here, but for what the upgrade
// needs (RFC 9110 §7.6.1).
func TestA101LosesWhatIsHopByHop(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nX-Internal: y\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nProxy-Authenticate: Basic\r\n"+
			"Connection: keep-alive, X-Internal\r\nConnection: upgrade, Sec-WebSocket-Accept\r\nSec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\nX-Kept: z\r\n\r\n")
		_ = c.Close()
	}))
	defer upstream.Close()
	r := start(t, "[upstream.u]\nurls = [\""+upstream.URL+"\"]\n[[route]]\nupstream = \"u\"\n")
	_, res := raw(t, r, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	want := http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Accept": {"ICX+Yqv66kxgM0FcWaLWlFLwTAI="}, "X-Kept": {"z"}}
	if res.StatusCode != http.StatusSwitchingProtocols || !maps.EqualFunc(res.Header, want, slices.Equal) {
		t.Errorf("%s %v, want %v", res.Status, res.Header, want)
	}
}

// Many a client takes any status but 101 for a refusal.
func TestInterimAnswersToAHandshakeStayHere(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		if c, err := websocket.Accept(w, req, nil); err == nil {
			c.CloseNow()
		}
	}))
	defer upstream.Close()
	r := start(t, "[upstream.u]\nurls = [\""+upstream.URL+"\"]\n[[route]]\nupstream = \"u\"\n")
	_, res := raw(t, r, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Error(res.Status)
	}
}

// A connection is counted as what it is at the moment, and as nothing else.
func TestATunnelIsOneConnection(t *testing.T) {
	r := start(t, plainRoute)
	r.get("/status/204")
	http.DefaultClient.CloseIdleConnections()
	until(t, "nobody is connected", func() bool { return r.g.clients.count() == 0 })
	c := r.ws("/ws")
	if err := echo(t.Context(), c, "here"); err != nil {
		t.Fatal(err)
	}
	for s, want := range map[metrics.State]float64{metrics.StateHTTP: 0, metrics.StateHandshake: 0, metrics.StateOpen: 1} {
		if n := testutil.ToFloat64(r.g.metrics.Connections(s)); n != want {
			t.Errorf("%v connections count as %v, want %v", n, s, want)
		}
	}
}

// The upstream of a handshake is told who asks for it, as that of a request is, and
// not who asked for something before.
func TestHandshakesAreForwardedForTheirClient(t *testing.T) {
	var forwarded atomic.Value
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		forwarded.Store(req.Header.Get("X-Forwarded-For"))
		w.WriteHeader(http.StatusTeapot)
	}))
	defer upstream.Close()
	route := "[upstream.u]\nurls = [\"" + upstream.URL + "\"]\n[[route]]\nupstream = \"u\"\n"
	r := start(t, route)
	for _, f := range []struct{ server, want string }{
		{`trusted_proxies = ["127.0.0.1"]`, "192.0.2.7, 127.0.0.1"},
		{"", "127.0.0.1"},
	} {
		r.reload("[server]", "[server]\n"+f.server, route)
		if _, _, err := r.dial("/", "X-Forwarded-For", "192.0.2.7"); err == nil {
			t.Fatal("a tunnel to no WebSocket")
		}
		if got := forwarded.Load(); got != f.want {
			t.Errorf("%q: X-Forwarded-For is %q, want %q", f.server, got, f.want)
		}
		r.get("/", "X-Forwarded-For", "198.51.100.1") // its carriage may serve the next handshake
	}
}
