package http1

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestResponseHeads(t *testing.T) {
	f := func(method, head string, want ResponseInfo) {
		t.Helper()
		got, err := new(Response).Parse([]byte(head), []byte(method))
		if err != nil || got != want {
			t.Errorf("%s %q:\n got %+v %v\nwant %+v", method, head, got, err, want)
		}
	}
	f("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", ResponseInfo{Status: 200, ContentLength: 5})
	f("GET", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", ResponseInfo{Status: 200})
	f("GET", "HTTP/1.1 404 \r\nTransfer-Encoding: chunked\r\n\r\n", ResponseInfo{Status: 404, ContentLength: -1, Chunked: true})
	f("GET", "HTTP/1.1 200 Na ja, \xe9\r\n\r\n", ResponseInfo{Status: 200, ContentLength: -1, Close: true})
	f("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", ResponseInfo{Status: 200, ContentLength: 5, Close: true})
	f("GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", ResponseInfo{Status: 200, ContentLength: 5, Close: true})
	f("GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", ResponseInfo{Status: 200, ContentLength: 5})
	f("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", ResponseInfo{Status: 200, ContentLength: 5, NoBody: true})
	f("HEAD", "HTTP/1.1 200 OK\r\n\r\n", ResponseInfo{Status: 200, ContentLength: -1, NoBody: true})
	f("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", ResponseInfo{Status: 304, ContentLength: 5, NoBody: true})
	f("GET", "HTTP/1.1 204 No Content\r\n\r\n", ResponseInfo{Status: 204, ContentLength: -1, NoBody: true})
	f("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", ResponseInfo{Status: 204, ContentLength: 5, NoBody: true, Close: true})
	f("GET", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n", ResponseInfo{Status: 101, ContentLength: -1, NoBody: true})
}

func TestMalformedResponses(t *testing.T) {
	for _, head := range []string{
		"HTTP/1.1 200 OK\nContent-Length: 5\n\n",
		"HTTP/2.0 200 OK\r\n\r\n",
		"HTTP/1.1  200 OK\r\n\r\n",
		"HTTP/1.1 20 OK\r\n\r\n",
		"HTTP/1.1 2000 OK\r\n\r\n",
		"HTTP/1.1 99\r\n\r\n",
		"HTTP/1.1 099 X\r\n\r\n",
		"HTTP/1.1 600 X\r\n\r\n",
		"HTTP/1.1 2x0 OK\r\n\r\n",
		"HTTP/1.1 200 O\x00K\r\n\r\n",
		"ICY 200 OK\r\n\r\n",
		" HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTrailer: Content-Length\r\n\r\n",
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 129) + "\r\n",
		"HTTP/1.1 200 OK\r\n\r\nbody",
	} {
		if _, err := new(Response).Parse([]byte(head), []byte("GET")); err == nil {
			t.Errorf("%q was accepted", head)
		} else if _, ok := errors.AsType[*Error](err); !ok {
			t.Errorf("%q: %v", head, err)
		}
	}
}

func body(t *testing.T, i ResponseInfo, s string) *BodyReader {
	t.Helper()
	var b BodyReader
	b.Reset(bufio.NewReaderSize(strings.NewReader(s), 8<<10), &i)
	return &b
}

func TestEndOfBodyIsKnownWithItsLastBytes(t *testing.T) {
	f := func(i ResponseInfo, s string) {
		t.Helper()
		b := body(t, i, s)
		p, err := b.Next()
		if string(p) != "hello" || err != io.EOF || !b.Done() || b.Buffered() != 0 {
			t.Errorf("%q: %q %v done=%v", s, p, err, b.Done())
		}
		if p, err := b.Next(); len(p) != 0 || err != io.EOF {
			t.Errorf("%q: after the end: %q %v", s, p, err)
		}
	}
	f(ResponseInfo{ContentLength: 5}, "helloHTTP/1.1")
	f(ResponseInfo{ContentLength: -1, Chunked: true}, "5\r\nhello\r\n0\r\n\r\nHTTP/1.1")
	f(ResponseInfo{ContentLength: -1, Chunked: true}, "5\r\nhello\r\n0\r\nX: y\r\n\r\n")
}

func TestBodyUntilTheConnectionEnds(t *testing.T) {
	b := body(t, ResponseInfo{ContentLength: -1, Close: true}, "hello")
	if got, err := io.ReadAll(b); string(got) != "hello" || err != nil || !b.Done() {
		t.Errorf("%q %v", got, err)
	}
}

func TestTrailersAreKept(t *testing.T) {
	b := body(t, ResponseInfo{ContentLength: -1, Chunked: true}, "1\r\nx\r\n0\r\nA:  b \r\nC: d\r\n\r\n")
	_, err := io.ReadAll(b)
	if want := "A: b\r\nC: d\r\n"; err != nil || string(b.Trailer()) != want {
		t.Errorf("%q %v, want %q", b.Trailer(), err, want)
	}
}

func TestErrorAfterGoodBytesComesAfterThem(t *testing.T) {
	b := body(t, ResponseInfo{ContentLength: -1, Chunked: true}, "5\r\nhello\r\nnonsense")
	p, err := b.Next()
	if string(p) != "hello" || err != nil {
		t.Fatalf("%q %v", p, err)
	}
	if _, err := errors.AsType[*Error](second(b.Next())); !err {
		t.Error("the malformed size was accepted")
	}
}

func second(_ []byte, err error) error { return err }
