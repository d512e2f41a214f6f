package http1

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// text is a head with one line a field.
func (h *Header) text() string {
	var b []byte
	for _, f := range h.Fields() {
		b = f.AppendTo(b)
	}
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

func TestWhatARequestSays(t *testing.T) {
	f := func(head, line, fields string) {
		t.Helper()
		raw := []byte(head)
		var r Request
		if _, err := r.Parse(raw); err != nil {
			t.Fatal(err)
		}
		clear(raw) // r keeps a copy
		if got := fmt.Sprintf("%s|%s|%s", r.Method, r.Target, r.Host); got != line || r.text() != fields {
			t.Errorf("%q:\n got %s\n%s\nwant %s\n%s", head, got, r.text(), line, fields)
		}
	}
	f("GET / HTTP/1.0\r\n\r\n", "GET|/|", "")
	f("GET /a?b HTTP/1.1\r\nhOST:\t a \t\r\nX-a:\r\nx-A:  1  2\r\n\r\n", "GET|/a?b|a", "hOST: a\nX-a: \nx-A: 1  2\n")
	// A policy that looks at the field sees the host that the upstream does.
	f("PUT http://b:81/c?d HTTP/1.1\r\nHost: a\r\n\r\n", "PUT|/c?d|b:81", "Host: b:81\n")
	f("GET HTTPS://b?d HTTP/1.1\r\nHost: a\r\n\r\n", "GET|/?d|b", "Host: b\n")
	f("GET http://b HTTP/1.0\r\nX: y\r\n\r\n", "GET|/|b", "X: y\nHost: b\n")
	f("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS|*|b", "Host: b\n")
	f("GET / HTTP/1.1\r\nHost: a:\r\n\r\n", "GET|/|a", "Host: a\n")
	f("GET / HTTP/1.1\r\nHost: [::1]:\r\n\r\n", "GET|/|[::1]", "Host: [::1]\n")
	f("GET http://b:/c HTTP/1.1\r\nHost: a:\r\n\r\n", "GET|/c|b", "Host: b\n")
}

func TestWhatAResponseSays(t *testing.T) {
	f := func(head string, status int, reason, fields string) {
		t.Helper()
		var r Response
		if _, err := r.Parse([]byte(head), []byte("GET")); err != nil {
			t.Fatal(err)
		}
		if r.Status != status || string(r.Reason) != reason || r.text() != fields {
			t.Errorf("%q: %d %q\n%s", head, r.Status, r.Reason, r.text())
		}
	}
	f("HTTP/1.1 200 OK\r\nb: 1\r\nA: 2\r\n\r\n", 200, "OK", "b: 1\nA: 2\n")
	f("HTTP/1.1 299 So  So \r\n\r\n", 299, "So  So", "")
	f("HTTP/1.1 404\r\n\r\n", 404, "", "")
}

func TestHeader(t *testing.T) {
	var h Header
	for _, f := range []string{"A: 1", "b: 2", "a: 3", "C-d: 4"} {
		name, value, _ := strings.Cut(f, ": ")
		h.Add(name, value)
	}
	if got := h.Get("A"); string(got) != "1" {
		t.Errorf("Get: %q", got)
	}
	if got := bytes.Join(h.Values("a"), []byte(",")); string(got) != "1,3" {
		t.Errorf("Values: %q", got)
	}
	if got := h.Get("c_d"); got != nil {
		t.Errorf("Get of what is not there: %q", got)
	}
	h.Set("c-D", "5")
	h.Remove(func(name []byte) bool { return string(name) == "b" })
	if got := h.text(); got != "A: 1\na: 3\nc-D: 5\n" {
		t.Errorf("got %q", got)
	}
	h.Reset()
	if len(h.Fields()) != 0 {
		t.Errorf("behind Reset: %q", h.text())
	}
}

func TestDateFollowsTheSeconds(t *testing.T) {
	at := time.Date(2026, 1, 31, 23, 59, 59, 0, time.FixedZone("", 3600))
	for _, want := range []string{
		"Sat, 31 Jan 2026 22:59:59 GMT", "Sat, 31 Jan 2026 22:59:59 GMT", "Sat, 31 Jan 2026 23:00:00 GMT", "Sat, 31 Jan 2026 23:00:00 GMT",
	} {
		var h Header
		if h.AddDate(at); h.text() != "Date: "+want+"\n" {
			t.Errorf("%v: %s, want %s", at, h.text(), want)
		}
		at = at.Add(500 * time.Millisecond)
	}
}
