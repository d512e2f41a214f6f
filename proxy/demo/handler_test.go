package demo

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnswers(t *testing.T) {
	base := "http://" + start(t)
	for _, c := range []struct {
		path   string
		status int
		holds  string
	}{
		{"/", 200, "<!doctype html>"},
		{"/status/503", 503, `{"status":503,"text":"Service Unavailable"}`},
		{"/status/204", 204, ""},
		{"/status/101", 400, `status \"101\" is not between 200 and 599`},
		{"/status/many", 400, `not between`},
		{"/slow?ms=0", 200, `{"slept_ms":0}`},
		{"/slow?ms=999999", 400, "ms 999999 is not between 0 and 120000"},
		{"/slow?ms=soon", 400, `ms=\"soon\" is not a whole number`},
		{"/events?rate=0", 400, "rate 0 is not between 1 and 50000"},
		{"/events?count=-1", 400, "count -1 is not between"},
		{"/stream?chunk=0", 400, "chunk 0 is not between"},
		{"/stream?bytes=5&chunk=2", 200, "\x00\x01\x02\x03\x04"},
		{"/stream?bytes=0", 200, ""},
		{"/ws?rate=99999999", 400, "rate 99999999 is not between"},
		{"/ws", 400, ""},
		{"/nothing", 404, "the demonstration backend has no"},
	} {
		resp, err := http.Get(base + c.path)
		if err != nil {
			t.Fatal(c.path, err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Error(c.path, err)
		}
		if resp.StatusCode != c.status || !strings.Contains(string(body), c.holds) {
			t.Errorf("%s: %d %.80q, want %d and %q", c.path, resp.StatusCode, body, c.status, c.holds)
		}
	}
}

func TestEchoTellsWhatItSaw(t *testing.T) {
	req, _ := http.NewRequest("GET", "http://"+start(t)+"/echo?a=b", nil)
	req.Header.Set("X-Forwarded-For", "192.0.2.7")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var seen seenRequest
	if err := json.NewDecoder(resp.Body).Decode(&seen); err != nil {
		t.Fatal(err)
	}
	if seen.Method != "GET" || seen.Path != "/echo" || seen.Query != "a=b" || seen.Headers["X-Forwarded-For"][0] != "192.0.2.7" {
		t.Errorf("%+v", seen)
	}
}

func TestEchoReturnsTheBodyWhileItArrives(t *testing.T) {
	r, w := io.Pipe()
	req, _ := http.NewRequest("POST", "http://"+start(t)+"/echo", r) // length unknown: chunked
	req.Header.Set("Content-Type", "text/plain")
	go func() { w.Write([]byte("one")) }() // ends when the client has read it
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); ct != "text/plain" {
		t.Errorf("content type %q", ct)
	}
	got := make([]byte, 3)
	for _, word := range []string{"one", "two", "six"} {
		if word != "one" {
			w.Write([]byte(word))
		}
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != word {
			t.Fatalf("%q, %v; want %q before the body's end", got, err, word)
		}
	}
	w.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
		t.Errorf("rest %q, %v", rest, err)
	}
}

func TestEchoOfALargeBody(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB with its length declared
	resp, err := http.Post("http://"+start(t)+"/echo", "application/x-test", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || string(got) != body {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(body))
	}
}

func TestEachEchoIsOfItsOwnRequest(t *testing.T) {
	url := "http://" + start(t) + "/echo"
	var all sync.WaitGroup
	defer all.Wait()
	for i := range 4 {
		all.Go(func() {
			c := &http.Client{Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			for k := range 300 {
				body := fmt.Sprintf("%d of %d", k, i)
				resp, err := c.Post(url, "text/plain", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if string(got) != body || err != nil {
					t.Errorf("%q came back as %q, %v", body, got, err)
					return
				}
			}
		})
	}
}

func TestAnUnreadBodyIsNotTakenForARequest(t *testing.T) {
	resp, err := http.Post("http://"+start(t)+"/status/500", "text/plain", strings.NewReader(strings.Repeat("GET / HTTP/1.1\r\n\r\n", 10_000)))
	if err == nil {
		resp.Body.Close()
		if !resp.Close {
			t.Error("the connection stays open behind a body that nobody read")
		}
	}
}

func TestEvents(t *testing.T) {
	resp, err := http.Get("http://" + start(t) + "/events?rate=5000&count=40")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Errorf("content type %q", ct)
	}
	events := 0
	sc := bufio.NewScanner(resp.Body)
	for sc.Scan() {
		if data, ok := strings.CutPrefix(sc.Text(), "data: "); ok {
			events++
			if !json.Valid([]byte(data)) {
				t.Errorf("event %d is not JSON: %s", events, data)
			}
		}
	}
	if sc.Err() != nil || events != 40 {
		t.Errorf("%d events, %v; want 40 and a clean end", events, sc.Err())
	}
}

func TestStreamOfBytesIsACycle(t *testing.T) {
	resp, err := http.Get("http://" + start(t) + "/stream?bytes=100000&chunk=777&rate=20000")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || len(got) != 100_000 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	for i, b := range got {
		if int(b) != i%byteCycle {
			t.Fatalf("byte %d is %d, want %d", i, b, i%byteCycle)
		}
	}
}

// Events that are due together are made one after the other where they are large.
func TestEventsAreNotMadeAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 64 << 10
		body := newEventBody(nil, feedSpec{Rate: maxRate, Size: size}, 0)
		for range 3 {
			chunk, err := body.next()
			if err != nil || len(chunk) > 2*size {
				t.Errorf("%d bytes at once, %v", len(chunk), err)
			}
			time.Sleep(time.Second) // the reader takes its time
		}
	})
}
