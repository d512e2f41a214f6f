package upstream

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"weir/proxy/config"
	"weir/proxy/http1"
)

func TestASmallBodyGoesWithItsHead(t *testing.T) {
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		b := make([]byte, 4096)
		n, _ := p.nc.Read(b) // one segment has it all
		if got := string(b[:n]); got != "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" {
			t.Errorf("%q", got)
		}
		p.answer("ok")
		_ = p.ended()
	}))
	r := request("/", buffered{strings.NewReader("hello"), 5})
	r.ContentLength = 5
	expectFetch(t, u, r, "ok")
}

func unsent(c *conn) bool {
	_, some := c.nc.Acked()
	return some
}

// An upstream is not late while it takes what the kernel holds of a body for it, which
// may be megabytes; from the last of it on it has response_timeout. One that takes
// nothing is late.
func TestAnUpstreamThatTakesTheBodySlowly(t *testing.T) {
	for _, takes := range []bool{true, false} {
		step, read := make(chan int64), make(chan error)
		u := to(t, config.Upstream{}, backend(t, func(p *peer) {
			for n := range step {
				_, err := io.CopyN(io.Discard, p.br, n)
				read <- err
			}
		}))
		c, err := u.targets[0].dial(nil, patience, func(func()) {})
		if err != nil {
			t.Fatal(err)
		}
		defer c.nc.Close()
		defer close(step)
		e := &Exchange{u: u, timeout: time.Minute}
		if !e.attach(c, nil) {
			t.Fatal("not attached")
		}
		var size int64
		for { // until neither kernel takes more
			n, err := c.nc.TryWrite(make([]byte, 64<<10))
			if err != nil {
				t.Fatal(err)
			}
			if size += int64(n); n == 0 && unsent(c) {
				break
			}
		}
		began := time.Now()
		after := func(d time.Duration) error {
			_, err := e.tick(began.Add(d))
			return err
		}
		e.began, e.sender = began, &sender{began: began} // which sent the last of it now
		if err := after(watchAfter); err != nil {
			t.Fatal(err)
		}
		if due := e.due(began); due.After(began.Add(time.Minute / 2)) {
			t.Errorf("the upstream is looked at again only in %v", due.Sub(began))
		}
		if takes {
			before, _ := c.nc.Acked()
			step <- size / 2
			if err := <-read; err != nil {
				t.Fatal(err)
			}
			for now := before; now == before; now, _ = c.nc.Acked() { // the test's deadline bounds it
			}
			if err := after(59 * time.Second); err != nil {
				t.Fatal(err)
			}
			if err := after(118 * time.Second); err != nil {
				t.Errorf("an upstream that took half of the body: %v", err)
			}
			step <- size - size/2
			if err := <-read; err != nil {
				t.Fatal(err)
			}
			for unsent(c) {
			}
			if err := after(118 * time.Second); err != nil {
				t.Fatal(err)
			}
			if err := after(177 * time.Second); err != nil {
				t.Errorf("an upstream that took it all a while ago: %v", err)
			}
			if err := after(179 * time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("an upstream that took it all, a minute after: %v", err)
			}
			continue
		}
		if err := after(time.Minute); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("an upstream that takes nothing: %v", err)
		}
	}
}

// writes is the end of a connection that keeps what each write brings.
type writes struct {
	io.Reader
	got []string
}

func (w *writes) Write(p []byte) (int, error) {
	w.got = append(w.got, string(p))
	return len(p), nil
}

func TestChunksThatAreHereAreOneWrite(t *testing.T) {
	sent := strings.Repeat("1\r\na\r\n2\r\nbc\r\n", 1000) + "0\r\nX: y\r\n\r\n"
	var body http1.BodyReader
	body.Reset(bufio.NewReaderSize(strings.NewReader(sent), 16<<10), &http1.ResponseInfo{Chunked: true, ContentLength: -1})
	var up writes
	s := &sender{e: &Exchange{}, c: &conn{rw: &up}, body: &body, left: -1, began: time.Now()}
	s.run()
	if got := strings.Join(up.got, ""); got != sent || !s.sent {
		t.Errorf("%d bytes sent, whole %v; want %d", len(got), s.sent, len(sent))
	}
	if len(up.got) != 1 {
		t.Errorf("%d writes", len(up.got))
	}
}
