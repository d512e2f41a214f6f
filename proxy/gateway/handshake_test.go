package gateway

import (
	"bufio"
	"strings"
	"testing"

	"weir/proxy/http1"

	"github.com/valyala/fasthttp"
)

// What a 101 must say, and may not.
func TestCheckUpgrade(t *testing.T) {
	const key = "dGhlIHNhbXBsZSBub25jZQ==" // RFC 6455 §1.3
	const fine = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	f := func(head, why string) {
		t.Helper()
		head += "\r\n"
		info, err := http1.CheckResponseHead([]byte(head), []byte("GET"))
		if err != nil {
			t.Fatal(err)
		}
		var resp fasthttp.ResponseHeader
		if err := resp.Read(bufio.NewReader(strings.NewReader(head))); err != nil {
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
	f(fine+"Sec-WebSocket-Protocol: secret\r\n", "was not offered")
	f(fine+"Sec-WebSocket-Protocol: chat, other\r\n", "was not offered")
	f(fine+"Content-Length: 5\r\n", "announces a body")
	f(fine+"Transfer-Encoding: chunked\r\n", "announces a body")
}
