package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"iter"
	"net/http/httputil"
	"regexp"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// FuzzRequestHead holds that whatever we accept, fasthttp parses with the same
// method, target, host and framing.
func FuzzRequestHead(f *testing.F) {
	for _, m := range loadMalformed(f) {
		f.Add([]byte(m.request))
	}
	for _, s := range []string{
		"GET /a?b HTTP/1.1\r\nHost: a:80\r\nCookie: a=b\r\nCookie: c\r\n\r\n",
		"POST http://x/y HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x, Y\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a:\r\n\r\n",
		"PUT / HTTP/1.0\r\nContent-Length: 007\r\nConnection: keep-alive, x\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n := headEnd(b, 0)
		if n == 0 {
			return
		}
		var r Request
		info, err := r.Parse(b[:n])
		if err != nil {
			return
		}
		head := string(b[:n])
		line := strings.Split(head[:strings.Index(head, "\r\n")], " ")
		var h fasthttp.RequestHeader
		br := bufio.NewReaderSize(bytes.NewReader(b[:n]), n+16)
		if err := h.Read(br); err != nil {
			t.Fatalf("%q: fasthttp: %v", head, err)
		}
		if br.Buffered() != 0 {
			t.Fatalf("%q: fasthttp left %d bytes", head, br.Buffered())
		}
		if string(h.Method()) != line[0] || string(h.RequestURI()) != line[1] || string(h.Protocol()) != line[2] {
			t.Fatalf("%q: %q %q %q", head, h.Method(), h.RequestURI(), h.Protocol())
		}
		sameLength(t, head, h.ContentLength(), info.ContentLength, info.Chunked)
		if host := fieldOf(head, "host"); string(h.Host()) != host || string(r.Get("host")) != string(r.Host) || !info.Absolute && string(r.Host) != strings.TrimSuffix(host, ":") {
			t.Fatalf("%q: host %q and %q, want %q", head, h.Host(), r.Host, host)
		}
		if string(r.Method) != line[0] || !info.Absolute && string(r.Target) != line[1] {
			t.Fatalf("%q: %q %q", head, r.Method, r.Target)
		}
		got := r.Fields()
		if info.Absolute && fieldOf(head, "host") == "" {
			got = got[:len(got)-1] // the Host of the target
		}
		sameFields(t, head, got, h.AllInOrder())
	})
}

// sameFields holds that the fields got are those that fasthttp found, which writes names
// in a form of its own; of Host only that it is there.
func sameFields(t *testing.T, head string, got []Field, want iter.Seq2[[]byte, []byte]) {
	t.Helper()
	for name, value := range want {
		if len(got) == 0 || !bytes.EqualFold(got[0].Name, name) || !bytes.Equal(got[0].Value, value) && string(name) != "Host" {
			t.Fatalf("%q: got %q, fasthttp %q: %q", head, got, name, value)
		}
		got = got[1:]
	}
	if len(got) > 0 {
		t.Fatalf("%q: fasthttp has no %q", head, got)
	}
}

// sameLength holds that a body is as long as fasthttp, which has it as got, says.
func sameLength(t *testing.T, head string, got int, length int64, chunked bool) {
	t.Helper()
	want := int(length)
	switch {
	case chunked:
		want = -1
	case want < 0:
		want = -2
	}
	if got != want {
		t.Fatalf("%q: length %d, want %d", head, got, want)
	}
}

// fieldOf is a slow reading of one field.
func fieldOf(head, name string) string {
	for _, line := range strings.Split(head, "\r\n")[1:] {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(k, name) {
			return strings.Trim(v, " \t")
		}
	}
	return ""
}

// spaced is a name with white space before its colon.
var spaced = regexp.MustCompile(`(?m)^([!-9;-~]+)[ \t]+:`)

// trailers is a Trailer field.
var trailers = regexp.MustCompile(`(?im)^trailer:(.*)\r\n`)

// FuzzResponseHead holds the same for responses, once what we remove is removed: white
// space before colons, and each Trailer that names what trailers may not have.
func FuzzResponseHead(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 304\r\nSet-Cookie: a=b\r\nSet-Cookie: a=c\r\nDate: x\r\n\r\n",
		"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTrailer: a\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: \xe9\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length \t: 5\r\nX : y\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTrailer: Content-Length\r\ntRailer : 0 0\r\nTrailer: a\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n := headEnd(b, 0)
		if n == 0 {
			return
		}
		var r Response
		info, err := r.Parse(b[:n], []byte("GET"))
		if err != nil {
			return
		}
		head := spaced.ReplaceAllString(string(b[:n]), "$1:")
		head = trailers.ReplaceAllStringFunc(head, func(field string) string {
			if value := trailers.FindStringSubmatch(field)[1]; checkTrailerNames([]byte(value), 0) != nil {
				return ""
			}
			return field
		})
		var h fasthttp.ResponseHeader
		br := bufio.NewReaderSize(strings.NewReader(head), n+16)
		if err := h.Read(br); err != nil {
			t.Fatalf("%q: fasthttp: %v", head, err)
		}
		if br.Buffered() != 0 || h.StatusCode() != info.Status {
			t.Fatalf("%q: status %d, %d bytes left", head, h.StatusCode(), br.Buffered())
		}
		sameLength(t, head, h.ContentLength(), info.ContentLength, info.Chunked)
	})
}

// FuzzChunked holds that what we accept, net/http reads alike, and that it does
// not matter in which pieces the bytes come, nor whether somebody looks ahead. In an answer we accept extensions that
// net/http does not: those it accepts it reads alike.
func FuzzChunked(f *testing.F) {
	for _, s := range []string{
		"5\r\nhello\r\n0\r\n\r\n", "0\r\n\r\n", "0\r\nX: y\r\n\r\n", "A\r\n0123456789\r\n00\r\n\r\n",
		"5;a\r\nhello\r\n0\r\n\r\n", "5 ;a=\";\"\r\nhello\r\n0;b\r\nX : y\r\n\r\n", "5\nhello\n0\n\n", "1\r\nx\r\n1\r\ny\r\n0\r\nContent-Length: 1\r\n\r\n",
	} {
		f.Add([]byte(s), uint8(3))
		f.Add([]byte(s), uint8(131))
	}
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		answer := piece > 127
		read := func(r io.Reader, next bool) (string, error) {
			b := BodyReader{br: bufio.NewReaderSize(r, 8<<10), chunked: true, answer: answer}
			b.begin()
			if !next {
				here, _ := b.br.Peek(len(in))
				checked := b.Check()
				got, err := io.ReadAll(&b)
				if _, ok := errors.AsType[*Error](err); ok != (checked != nil) && len(here) == len(in) {
					t.Fatalf("%q: Check %v, Read %v", in, checked, err)
				}
				return string(got), err
			}
			var got []byte
			for {
				p, err := b.Next()
				got = append(got, p...)
				if err != nil {
					if err == io.EOF {
						err = nil
					}
					return string(got), err
				}
			}
		}
		got, err := read(bytes.NewReader(in), false)
		slow, slowErr := read(&pieces{in, int(piece%17) + 1}, true)
		if got != slow || (err == nil) != (slowErr == nil) {
			t.Fatalf("%q: %q %v, in pieces %q %v", in, got, err, slow, slowErr)
		}
		if err != nil {
			return
		}
		want, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(in)))
		if (err != nil && !answer) || (err == nil && string(want) != got) {
			t.Fatalf("%q: %q, net/http %q %v", in, got, want, err)
		}
	})
}

// pieces is a reader that gives n bytes at a time.
type pieces struct {
	b []byte
	n int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.b[:min(len(p.b), p.n)])
	p.b = p.b[n:]
	return n, nil
}
