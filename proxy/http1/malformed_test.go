package http1

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// malformed is one line of testdata/malformed.txt.
type malformed struct {
	status  int
	inBody  bool
	name    string
	request string
}

func loadMalformed(t testing.TB) []malformed {
	t.Helper()
	b, err := os.ReadFile("testdata/malformed.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []malformed
	for n, line := range strings.Split(string(b), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.SplitN(line, " ", 4)
		status, err1 := strconv.Atoi(f[0])
		request, err2 := strconv.Unquote(f[3])
		if err1 != nil || err2 != nil || f[1] != "head" && f[1] != "body" {
			t.Fatalf("line %d: %v %v", n+1, err1, err2)
		}
		all = append(all, malformed{status, f[1] == "body", f[2], request})
	}
	return all
}

// readRequest reads one request as the server does, without a server.
func readRequest(s string) (RequestInfo, string, error) {
	br := bufio.NewReaderSize(strings.NewReader(s), 8<<10)
	head, err := ReadHead(br, 8<<10)
	if err != nil {
		return RequestInfo{}, "", err
	}
	info, err := new(Request).Parse(head)
	if err != nil {
		return info, "", err
	}
	_, _ = br.Discard(len(head))
	b := BodyReader{br: br, left: max(info.ContentLength, 0), chunked: info.Chunked}
	b.begin()
	checked := b.Check()
	body, err := io.ReadAll(&b)
	if e, ok := errors.AsType[*Error](err); (ok || checked != nil) && !reflect.DeepEqual(checked, err) {
		return info, "", fmt.Errorf("Check: %v, Read: %v", checked, e)
	}
	return info, string(body), err
}

func TestMalformedRequestsAreRefused(t *testing.T) {
	for _, m := range loadMalformed(t) {
		t.Run(m.name, func(t *testing.T) {
			head := m.request[:headEnd([]byte(m.request), 0)]
			if _, err := new(Request).Parse([]byte(head)); (err == nil) != m.inBody {
				t.Errorf("head: %v", err)
			}
			_, _, err := readRequest(m.request)
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Status != m.status {
				t.Errorf("got %v, want status %d", err, m.status)
			}
		})
	}
}

func TestRequestsThatAreFine(t *testing.T) {
	f := func(request string, want RequestInfo, body string) {
		t.Helper()
		info, got, err := readRequest(request)
		if err != nil {
			t.Errorf("%q: %v", request, err)
			return
		}
		if info != want || got != body {
			t.Errorf("%q:\n got %+v %q\nwant %+v %q", request, info, got, want, body)
		}
	}
	none := RequestInfo{ContentLength: -1}
	f("GET / HTTP/1.1\r\nHost: a\r\n\r\n", none, "")
	f("GET /a?b={c}|\"d\" HTTP/1.1\r\nHost: a.example:8080\r\n\r\n", none, "")
	f("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", none, "")
	f("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", none, "")
	f("GET / HTTP/1.1\r\nhOST:\t a \t\r\nX: \xe9\t\x80\r\nY:\r\n\r\n", none, "")
	f("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n", RequestInfo{ContentLength: -1, Close: true}, "")
	f("GET / HTTP/1.0\r\n\r\n", RequestInfo{ContentLength: -1, HTTP10: true, Close: true}, "")
	f("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", RequestInfo{ContentLength: -1, HTTP10: true, KeepAlive10: true}, "")
	f("POST / HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi", RequestInfo{ContentLength: 2, HTTP10: true, Close: true}, "hi")
	f("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 002\r\n\r\nhi", RequestInfo{ContentLength: 2}, "hi")
	f("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nExpect: 100-Continue\r\n\r\n", RequestInfo{ContentLength: 0}, "")
	f("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-Continue\r\n\r\nx", RequestInfo{ContentLength: 1, Expect100: true}, "x")
	f("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nhi\r\n00A\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
		RequestInfo{ContentLength: -1, Chunked: true}, "hi0123456789")
	f("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n",
		RequestInfo{ContentLength: -1, Upgrade: true}, "")
	f("POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nx",
		RequestInfo{ContentLength: 1}, "x")
	f("GET http://b:81/c?d HTTP/1.1\r\nHost: a\r\n\r\n",
		RequestInfo{ContentLength: -1, Absolute: true}, "")
	f("GET HTTPS://b?d HTTP/1.1\r\nHost: a\r\n\r\n",
		RequestInfo{ContentLength: -1, Absolute: true, HTTPS: true}, "")
	f("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n",
		RequestInfo{ContentLength: -1, Absolute: true}, "")
}

func TestHeadBounds(t *testing.T) {
	f := func(request string, status int) {
		t.Helper()
		_, _, err := readRequest(request)
		if e, ok := errors.AsType[*Error](err); !ok || e.Status != status {
			t.Errorf("%d bytes: got %v, want %d", len(request), err, status)
		}
	}
	f("GET / HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", 9000)+"\r\n\r\n", 431)
	f("GET / HTTP/1.1\r\nHost: a\r\n"+strings.Repeat("X: y\r\n", 128)+"\r\n", 431)
	f("GET /"+strings.Repeat("x", 9000), 414) // RFC 9112 §3
	f("GET /"+strings.Repeat("x", 9000)+" HTTP/1.1\r\nHost: a\r\n\r\n", 414)
	f("GET /"+strings.Repeat("x", 8000)+" HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", 9000), 431)
	f("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: "+strings.Repeat("x", 5000)+"\r\n\r\n", 431)
	f("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"+strings.Repeat("X: y\r\n", 129)+"\r\n", 431)
	f("GET / HTTP/1.1\r\nHost: a\r\nConnection: a\r\nConnection: "+strings.Repeat("b,", 127)+"c\r\n\r\n", 431)
	for _, fine := range []string{strings.Repeat("X: y\r\n", 127), "Connection: " + strings.Repeat("b,", 127) + "c\r\n"} {
		if _, _, err := readRequest("GET / HTTP/1.1\r\nHost: a\r\n" + fine + "\r\n"); err != nil {
			t.Error(err)
		}
	}
}

func TestTruncatedRequests(t *testing.T) {
	whole := "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n"
	for n := range len(whole) {
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if _, _, err := readRequest(whole[:n]); err != want {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, _, err := readRequest("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nhi"); err != io.ErrUnexpectedEOF {
		t.Error(err)
	}
}

// What is wrong is named as it is, wherever the white space stands.
func TestWhiteSpaceIsToldApart(t *testing.T) {
	f := func(rest, want string) {
		t.Helper()
		x := &lines{rest: []byte(rest + "\r\n\r\n")}
		if _, _, err := x.next(); err == nil || err.Status != 400 || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", rest, err, want)
		}
	}
	f("X : a", "before the colon")
	f("X \t: a:b", "before the colon")
	f("X Y: a", "within the name")
	f("X Y : a", "within the name")
	f("X Y", "without a colon")
	for chunk, want := range map[string]string{"5 \r\n": "white space behind a chunk size", "5\t;a": "white space", "5;a\r\n": "extension"} {
		if _, _, err := chunkHead([]byte(chunk), false); err == nil || err.Status != 400 || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", chunk, err, want)
		}
	}
}
