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
		"HTTP/1.1 200 OK\r\nX y: z\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX y : z\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX \r\n\r\n",
		"HTTP/1.1 200 OK\r\n : y\r\n\r\n",
		"HTTP/1.1 200 OK\r\n: y\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length : 5\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length\t: 5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n",
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 129) + "\r\n",
		"HTTP/1.1 200 OK\r\nConnection: " + strings.Repeat(",", 128) + "\r\n\r\n",
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

// RFC 9112 §5.1: who forwards a response removes it, also where it frames.
func TestWhiteSpaceBeforeAColonGoes(t *testing.T) {
	var r Response
	info, err := r.Parse([]byte("HTTP/1.1 200 OK\r\nX : y\r\nTransfer-Encoding \t: chunked\r\n\r\n"), []byte("GET"))
	if err != nil || !info.Chunked || string(r.fields[0].AppendTo(nil)) != "X: y\r\n" {
		t.Errorf("%+v %v %q", info, err, r.fields)
	}
	b := body(t, info, "0\r\nA : b\r\n\r\n")
	if _, err := io.ReadAll(b); err != nil || string(b.Trailer()) != "A: b\r\n" {
		t.Errorf("%q %v", b.Trailer(), err)
	}
}

// RFC 9112 §7.1.1: a recipient ignores chunk extensions that it does not know.
func TestChunkExtensionsOfAResponseAreIgnored(t *testing.T) {
	f := func(chunks, want string) {
		t.Helper()
		b := body(t, ResponseInfo{ContentLength: -1, Chunked: true}, chunks)
		got, err := io.ReadAll(b)
		if want == "" {
			if string(got) != "hello" || err != nil || !b.Done() {
				t.Errorf("%q: %q %v", chunks, got, err)
			}
		} else if e, ok := errors.AsType[*Error](err); !ok || !strings.Contains(e.Error(), want) {
			t.Errorf("%q: %v, want %q", chunks, err, want)
		}
	}
	const rest = "\r\nhello\r\n0\r\n\r\n"
	f("5;a"+rest, "")
	f("5;a=b;c=d"+rest, "")
	f("5 ; a = b\t;c"+rest, "")
	f("5;a=\"x;y\\\"\t\xe9\""+rest, "")
	f("5\r\nhello\r\n0;last\r\n\r\n", "")
	f("5;"+strings.Repeat("x", maxExtension-1)+rest, "")

	f("5;"+strings.Repeat("x", maxExtension)+rest, "1024")
	f("5"+strings.Repeat(" ", 5000), "1024")
	f("5;a\nb"+rest, "control character")
	f("5;a=\"\n\""+rest, "control character")
	f("5;a\x00"+rest, "control character")
	f("5;a\rb"+rest, "CRLF")
	f("5 "+rest, "white space")
	f(";a"+rest, "hexadecimal")
	f("5 a"+rest, "white space")
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
