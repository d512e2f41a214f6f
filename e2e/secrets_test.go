//go:build e2e

package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// What clients and upstreams confide to each other, and operators to Weir,
// stands in no log line, at whatever level and whatever goes wrong.
func TestSecretsAreNeverLogged(t *testing.T) {
	t.Parallel()
	const secret = "Xy7SECRETyX"
	g := start(t, settings{
		args:   []string{"--log-level", "debug"},
		admin:  "token = \"" + secret + "\"",
		limits: "max_message_size = 100\nmax_body_size = 100",
		route:  `allowed_origins = ["https://app.example"]`,
		policy: `droppable = ["presence"]`,
		rest:   "[[route]]\npath = \"/gone\"\nupstream = \"gone\"\n[upstream.gone]\nurls = [\"http://" + freeAddr(t) + "\"]\n",
	})
	g.token = secret

	// Requests that are in order, refused, unroutable, or without an upstream.
	for _, path := range []string{"/echo", "/gone", "/status/500", "/nothing"} {
		for _, body := range []string{secret, strings.Repeat(secret, 50)} {
			req, err := http.NewRequestWithContext(t.Context(), "POST", g.http(path)+"?token="+secret, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"Authorization", "Cookie", "X-Api-Key", "Sec-Websocket-Key", "X-Forwarded-For", "Forwarded", "Traceparent"} {
				req.Header.Set(name, secret)
			}
			resp, err := client.Do(req)
			if err != nil {
				continue // its answer may be cut off with its body
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
	// Requests that cannot be read.
	for _, text := range []string{
		"GET /?" + secret + " HTTP/1.1\r\nHost: a\r\nX-Key : " + secret + "\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: " + secret + "\x01\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: " + secret + "\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: " + secret + "\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + secret + "\r\n",
		secret + "\r\n\r\n",
		"GET /" + "?" + strings.Repeat(secret, 3000) + " HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		c := dialRaw(t, g.addr)
		c.send(text)
		_, _ = io.Copy(io.Discard, c.br)
	}
	// Tunnels: what is passed on, refused, shed, broken.
	ws := g.ws("/ws") + "?token=" + secret
	header := http.Header{"Authorization": {secret}, "Cookie": {secret}, "Origin": {"https://app.example"}}
	for _, text := range []string{secret, strings.Repeat(secret, 20), `{"type":"presence","pad":"` + strings.Repeat(secret, 20) + `"}`} {
		c := dialGo(t, ws, &websocket.DialOptions{HTTPHeader: header, Subprotocols: []string{secret}})
		writeGo(t, c, text)
		_ = readGo(t, c)
		_ = c.CloseNow()
	}
	header.Set("Origin", "https://other.example")
	if _, _, err := websocket.Dial(t.Context(), ws, &websocket.DialOptions{HTTPHeader: header}); err == nil {
		t.Error("another origin was let in")
	}
	broken := dialRaw(t, g.addr)
	broken.send("GET /ws?" + secret + " HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	broken.head("GET")
	broken.send("\xf1\x8b" + secret)
	_, _ = io.Copy(io.Discard, broken.br)

	// Operators: the right token, a wrong one, one that cannot be used.
	if status, _ := g.ask("POST", "/reload"); status != 200 {
		t.Errorf("a reload with the token: %d", status)
	}
	g.token = secret + "2"
	if status, _ := g.ask("GET", "/connections?"+secret); status != 401 {
		t.Errorf("a wrong token: %d", status)
	}
	g.token = secret
	bad := g.settings
	bad.admin = "token = \"" + secret + " " + secret + "\""
	g.configure(bad)
	status, body := g.ask("POST", "/reload")
	if status != 422 || strings.Contains(string(body), secret) {
		t.Errorf("%d %s", status, body)
	}
	g.logs.wait("the refused reload", "msg=reload failed*")
	if c, out, err := command(t, "validate", "-c", g.config); c == 0 || strings.Contains(out+err, secret) {
		t.Errorf("weir validate: %d %s %s", c, out, err)
	}
	g.stop()
	for line := range strings.Lines(g.logs.String() + g.stdout.String()) {
		if strings.Contains(line, secret) {
			t.Errorf("logged: %s", line)
		}
	}
	if n := len(g.logs.all("msg=upgraded")); n < 4 {
		t.Errorf("%d tunnels are logged", n)
	}
}
