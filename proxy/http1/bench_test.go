package http1

import (
	"bytes"
	"io"
	"testing"
)

// One connection's requests allocate nothing of their own.
func BenchmarkKeepAlive(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 128)
	addr := listen(b, &Server{Handler: func(x *Exchange) { _ = x.Respond(200, "text/plain", body) }})
	c := dial(b, addr)
	request := []byte("GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	answer := make([]byte, len("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 128\r\n\r\n")+len(body))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = c.nc.Write(request)
		if _, err := io.ReadFull(c.nc, answer); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseRequest(b *testing.B) {
	head := []byte("GET /some/path?with=query HTTP/1.1\r\nHost: example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n" +
		"Accept: text/html,application/xhtml+xml\r\nAccept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\n" +
		"Cookie: session=0123456789abcdef0123456789abcdef\r\n\r\n")
	b.SetBytes(int64(len(head)))
	b.ReportAllocs()
	var r Request
	for b.Loop() {
		if _, err := r.Parse(head); err != nil {
			b.Fatal(err)
		}
	}
}
