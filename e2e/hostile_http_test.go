//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// wiretap is a backend that keeps every byte it receives, by connection. It
// answers each request once it has all of it, and closes then.
type wiretap struct {
	url string

	mu   sync.Mutex
	all  []string // of connections that sent a request, in the order of these
	open int
}

func tap(t *testing.T) *wiretap {
	w := &wiretap{}
	accepted := func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.open++
	}
	w.url = listening(t, accepted, func(c *raw) {
		var got bytes.Buffer
		c.br = bufio.NewReader(io.TeeReader(c.Conn, &got))
		head := c.request()
		w.mu.Lock()
		place := len(w.all)
		w.all = append(w.all, "")
		w.mu.Unlock()
		defer func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.open--
			w.all[place] = got.String()
		}()
		if _, err := c.body(head); head == "" || err != nil {
			return
		}
		answer := "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
		if field(head, "Upgrade") == "websocket" && strings.HasPrefix(head, "GET /accepted") {
			answer = accept(head)
		}
		_, _ = io.WriteString(c, answer)
		if !strings.HasPrefix(answer, "HTTP/1.1 101") { // its end might be noticed before what the client sent
			_ = c.CloseWrite()
		}
		_, _ = io.Copy(io.Discard, c.br) // whatever comes behind it
	})
	return w
}

// CloseWrite ends what this end sends.
func (c *raw) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return nil
	}
	return half.CloseWrite()
}

var randomIDs = regexp.MustCompile(`(X-Request-Id: |traceparent: 00-|Traceparent: 00-)[0-9a-f]{32}(-[0-9a-f]{16})?`)

// received is what came since the last call, connection by connection, when
// none is open any more. Ids that Weir made up are left out.
func (w *wiretap) received(t *testing.T, b *siege) (all []string) {
	t.Helper()
	b.get("/last") // accepted behind all others
	eventually(t, "the upstream's connections to end", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.open == 0
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.all {
		if one != "" && !strings.HasPrefix(one, "GET /last ") {
			one = strings.Replace(one, "Host: "+strings.TrimPrefix(w.url, "http://"), "Host: UPSTREAM", 1)
			all = append(all, readable(randomIDs.ReplaceAllString(one, "${1}*")))
		}
	}
	w.all = nil
	return all
}

// readable unmasks the frame behind a handshake.
func readable(one string) string {
	head, rest, _ := strings.Cut(one, "\r\n\r\n")
	if rest == "" || field(head, "Upgrade") == "" {
		return one
	}
	b0, _, payload, err := (&raw{br: bufio.NewReader(strings.NewReader(rest))}).anyFrame()
	return fmt.Sprintf("%s\r\n\r\n%x %s %v", head, b0, payload, err)
}

// Every line of http1's table of malformed requests, against the running Weir:
// refused as it says, the connection closed, and nothing of it at the backend, also
// where only the body is broken.
func TestMalformedRequestsNeverReachTheBackend(t *testing.T) {
	t.Parallel()
	table, err := os.ReadFile("../proxy/http1/testdata/malformed.txt")
	if err != nil {
		t.Fatal(err)
	}
	w := tap(t)
	b := besiege(t, settings{native: true, urls: w.url})
	b.withstands("malformed requests", func(t *testing.T) {
		lines := 0
		for line := range strings.Lines(string(table)) {
			line = strings.TrimSuffix(line, "\n")
			if line == "" || line[0] == '#' {
				continue
			}
			lines++
			f := strings.SplitN(line, " ", 4)
			request, err := strconv.Unquote(f[3])
			if err != nil {
				t.Fatalf("%s: %v", f[2], err)
			}
			c := dialRaw(t, b.addr)
			// What is behind it must not be taken for a request either.
			c.send(request + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
			a := c.response("GET")
			if fmt.Sprint(a.StatusCode) != f[0] || !a.Close {
				t.Errorf("%s: %s, close %v; want %s", f[2], a.Status, a.Close, f[0])
			}
			if _, err := http.ParseTime(a.Header.Get("Date")); err != nil {
				t.Errorf("%s: %v", f[2], err)
			}
			if p := decodeProblem(t, a.body); p.Code != "protocol_error" || p.Retryable || len(p.TraceID) != 32 || a.Header.Get("X-Request-Id") == "" {
				t.Errorf("%s: %v %s", f[2], a.Header, a.body)
			}
			c.ended()
			c.Close()
			got := w.received(t, b)
			if len(got) > 0 {
				t.Errorf("%s: the upstream received %q", f[2], got)
			}
			b.works("behind " + f[2])
		}
		if lines < 150 {
			t.Fatalf("%d lines", lines)
		}
	})
}

// What has one reading is forwarded in one form, byte for byte as
// testdata/forwarded.txt says: NAME, the client's bytes behind ">", and behind
// each "<" what the upstream received on one connection. Behind the client's
// bytes stands another request, for /behind.
func TestRequestsAreForwardedInOneForm(t *testing.T) {
	t.Parallel()
	table, err := os.ReadFile("testdata/forwarded.txt")
	if err != nil {
		t.Fatal(err)
	}
	w := tap(t)
	b := besiege(t, settings{native: true, urls: w.url})
	b.withstands("requests that others read in two ways", func(t *testing.T) {
		cases := strings.Split(strings.TrimSpace(string(table)), "\n\n")
		for _, text := range cases {
			name, rest, _ := strings.Cut(text, "\n")
			if strings.HasPrefix(name, "#") {
				continue
			}
			sent, want, _ := strings.Cut(rest, "\n")
			request, err := strconv.Unquote(strings.TrimPrefix(sent, "> "))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			c := dialRaw(t, b.addr)
			c.send(request + "GET /behind HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			_, _ = io.Copy(io.Discard, c.br)
			c.Close()
			got := ""
			for _, one := range w.received(t, b) {
				got += "< " + strconv.Quote(one) + "\n"
			}
			if got = strings.TrimSuffix(got, "\n"); got != want {
				t.Errorf("%s: the upstream received\n%s\nwant\n%s", name, got, want)
			}
		}
		if len(cases) < 40 {
			t.Fatalf("%d cases", len(cases))
		}
	})
}
