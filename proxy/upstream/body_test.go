package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"weir/proxy/config"
	"weir/proxy/http1"
	"weir/proxy/nettest"
	"weir/proxy/sock"
)

func http1Reader(s string) *bufio.Reader { return bufio.NewReader(strings.NewReader(s)) }

func TestBodiesStreamUp(t *testing.T) {
	seen := make(chan string)
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		p.head()
		for _, chunk := range []string{"1\r\na\r\n", "2\r\nbc\r\n", "0\r\n\r\n"} {
			if !p.expect(chunk) {
				return
			}
			seen <- chunk
		}
		p.answer("ok")
		_ = p.ended()
	}))
	body, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		expectFetch(t, u, request("/", body), "ok")
	}()
	for _, s := range []string{"a", "bc"} {
		_, _ = w.Write([]byte(s))
		nettest.Within(t, seen, s) // before the next is sent
	}
	_ = w.Close()
	nettest.Within(t, seen, "the end")
	nettest.Within(t, done, "the answer")
}

func TestBodiesStreamDown(t *testing.T) {
	next := make(chan struct{})
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		p.head()
		p.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for range 3 {
			<-next
			p.send("1\r\nx\r\n")
		}
		<-next
		p.send("0\r\nX: y\r\n\r\n")
		_ = p.ended()
	}))
	var resp http1.Response
	e, err := u.Do(request("/", nil), &resp)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		next <- struct{}{}
		if p, err := e.Body.Next(); string(p) != "x" || err != nil {
			t.Errorf("%q %v", p, err)
		}
	}
	next <- struct{}{}
	if p, err := e.Body.Next(); len(p) > 0 || err != io.EOF || string(e.Body.Trailer()) != "X: y\r\n" {
		t.Errorf("%q %v %q", p, err, e.Body.Trailer())
	}
	e.Finish(true)
	if s := u.Status(); s[0].Idle != 1 {
		t.Errorf("%+v", s)
	}
}

// A body that was waited for in vain may begin at any time.
func TestAWaitForABodyBoundsNoOther(t *testing.T) {
	next := make(chan struct{})
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		p.head()
		p.send("HTTP/1.1 503 X\r\nContent-Length: 1\r\n\r\n")
		<-next
		p.send("x")
	}))
	var resp http1.Response
	e, err := u.Do(request("/", nil), &resp)
	if err != nil {
		t.Fatal(err)
	}
	e.AwaitBody(time.Millisecond)
	if limit := e.limit(time.Now()); !limit.IsZero() {
		t.Errorf("what follows is to be here by %v", limit)
	}
	close(next)
	if p, err := e.Body.Next(); string(p) != "x" || err != nil && err != io.EOF {
		t.Errorf("%q %v", p, err)
	}
	e.Finish(true)
}

// A server may write a chunk's size and its data one after the other.
func TestAWaitForABodyIsForItsData(t *testing.T) {
	for _, begun := range []string{"", "5", "5\r\n"} {
		next := make(chan struct{})
		u := to(t, config.Upstream{}, backend(t, func(p *peer) {
			p.head()
			p.send("HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n" + begun)
			<-next
			p.send("5\r\nwhat?\r\n0\r\n\r\n"[len(begun):])
		}))
		var resp http1.Response
		e, err := u.Do(request("/", nil), &resp)
		if err != nil {
			t.Fatal(err)
		}
		e.AwaitBody(time.Millisecond) // it has begun, at most
		close(next)
		e.AwaitBody(patience)
		if n := e.Body.Buffered(); n != 5 {
			t.Errorf("%q: %d bytes are here", begun, n)
		}
		if b, err := io.ReadAll(e.Body); string(b) != "what?" || err != nil {
			t.Errorf("%q: %q, %v", begun, b, err)
		}
		e.AwaitBody(patience) // the end is here
		e.Finish(true)
	}
	for _, broken := range []string{"x", "5\r\nwhat?x", "5"} {
		u := to(t, config.Upstream{}, backend(t, func(p *peer) {
			p.head()
			p.send("HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n" + broken)
		}))
		var resp http1.Response
		e, err := u.Do(request("/", nil), &resp)
		if err != nil {
			t.Fatal(err)
		}
		e.AwaitBody(patience)
		if _, err := io.ReadAll(e.Body); err == nil {
			t.Errorf("%q: no error", broken)
		}
		e.AwaitBody(patience)
		e.Finish(false)
	}
}

func TestLargeBodiesArriveWhole(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789abcdef"), 40000)
	for _, length := range []int64{int64(len(want)), -1} {
		s := &http1.Server{Handler: func(x *http1.Exchange) {
			if x.Info.ContentLength != length {
				t.Errorf("length %d, want %d", x.Info.ContentLength, length)
			}
			_ = x.Start(x.Info.ContentLength)
			if _, err := io.Copy(onlyWriter{x}, x.Body); err != nil {
				t.Error(err)
			}
			x.Trailer = x.Body.Trailer()
			if err := x.Finish(); err != nil {
				t.Error(err)
			}
		}}
		u := to(t, config.Upstream{}, serve(t, s))
		r := request("/", bytes.NewReader(want))
		r.ContentLength = length
		for range 2 {
			r.Body = bytes.NewReader(want)
			if got, err := fetch(u, r); got != string(want) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		}
		if s := u.Status(); s[0].Idle != 1 {
			t.Errorf("%+v", s)
		}
	}
}

// onlyWriter hides everything but Write.
type onlyWriter struct{ io.Writer }

// serve runs an http1.Server on loopback.
func serve(t testing.TB, s *http1.Server) string {
	t.Helper()
	addr := nettest.Serve(t, func(c *net.TCPConn, _ int) { s.ServeConn(sock.Wrap(c)) })
	t.Cleanup(s.Close)
	return "http://" + addr
}

type buffered struct {
	io.Reader
	n int
}

func (b buffered) Buffered() int { return b.n }

func TestTheAnswerMayComeBeforeTheBody(t *testing.T) {
	up := make(chan struct{})
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		p.head()
		p.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
		if p.expect("2\r\nhi\r\n") {
			p.send("1\r\nb\r\n")
		}
		close(up)
		if p.expect("0\r\n\r\n") {
			p.send("0\r\n\r\n")
		}
		_ = p.ended()
	}))
	body, w := io.Pipe()
	var resp http1.Response
	e, err := u.Do(request("/", body), &resp)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a", "b"} {
		if p, err := e.Body.Next(); string(p) != want || err != nil {
			t.Fatalf("%q %v, want %q", p, err, want)
		}
		if want == "a" {
			_, _ = w.Write([]byte("hi"))
			nettest.Within(t, up, "the body")
		}
	}
	_ = w.Close()
	if p, err := e.Body.Next(); len(p) > 0 || err != io.EOF {
		t.Errorf("%q %v", p, err)
	}
	d := noted(e)
	e.Finish(true)
	if s := u.Status(); s[0].Idle != 1 {
		t.Errorf("%+v", s)
	}
	if d.ahead {
		t.Error("the last write's deadline is left to the next exchange")
	}
}

// Its client may be slow: only the head is written against the clock.
func TestABodyIsSentWithoutALimit(t *testing.T) {
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		p.head()
		p.expect("0\r\n\r\n")
		p.answer("")
	}))
	r := request("/", nil)
	e := newExchange(u, r)
	r.Body = reading(func([]byte) (int, error) {
		if limit := e.c.writeLimit; limit != 0 {
			t.Errorf("each write of it has %v", limit)
		}
		return 0, io.EOF
	})
	var resp http1.Response
	if err := e.attempt(u.targets[0], false, r, appendHead(nil, r), false, &resp); err != nil {
		t.Fatal(err)
	}
	e.Finish(true)
}

type reading func([]byte) (int, error)

func (r reading) Read(p []byte) (int, error) { return r(p) }

func TestAnEarlyAnswerEndsTheBody(t *testing.T) {
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		p.head()
		p.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
		_ = p.ended()
	}))
	body := newStuck()
	expectFetch(t, u, request("/", body), "no")
	nettest.Within(t, body.interrupted, "the interrupt")
	if s := u.Status(); s[0].Idle != 0 || s[0].InUse != 0 {
		t.Errorf("%+v", s)
	}
}

func TestAnUpstreamThatIsLostEndsTheBody(t *testing.T) {
	u := to(t, config.Upstream{}, backend(t, func(p *peer) { p.head() }))
	body := newStuck()
	expectKind(t, u, request("/", body), Closed)
	select {
	case <-body.interrupted:
	default:
		t.Error("the body is still being read")
	}
}

// stuck is a body that says nothing until it is interrupted.
type stuck struct{ interrupted chan struct{} }

func newStuck() *stuck { return &stuck{make(chan struct{})} }

func (s *stuck) Read([]byte) (int, error) {
	<-s.interrupted
	return 0, http1.ErrInterrupted
}

func (s *stuck) Interrupt() { close(s.interrupted) }

// TestAResetThatTheBodyMetIsNoEnd: a socket tells a reset once, to whoever writes or
// reads first; who reads behind that sees an end.
func TestAResetThatTheBodyMetIsNoEnd(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*net.TCPConn) error // before the connection is reset
		want bool
	}{
		{"reset", func(*net.TCPConn) error { return nil }, false},
		{"ended, then reset", (*net.TCPConn).CloseWrite, true},
	} {
		reset := make(chan struct{})
		u := to(t, config.Upstream{}, backend(t, func(p *peer) {
			p.head()
			p.send("HTTP/1.1 200 OK\r\n\r\npart")
			_ = c.end(p.nc)
			_ = p.nc.SetLinger(0)
			_ = p.nc.Close()
			close(reset)
		}))
		body, w := io.Pipe()
		var resp http1.Response
		e, err := u.Do(request("/", body), &resp)
		if err != nil {
			t.Fatal(err)
		}
		nettest.Within(t, reset, "the reset")
		_, _ = w.Write([]byte("more"))
		e.sender.done.Wait()
		got, err := io.ReadAll(e.Body)
		if string(got) != "part" || (err == nil) != c.want {
			t.Errorf("%s: got %q, %v", c.name, got, err)
		}
		e.Finish(err == nil)
		_ = w.Close()
	}
}

func TestABodyThatFailsEndsTheExchange(t *testing.T) {
	broken := errors.New("the client broke")
	ends := make(chan error, 1)
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		p.head()
		p.expect("2\r\nhi\r\n")
		b, err := io.ReadAll(p.br)
		if len(b) > 0 {
			t.Errorf("after the body broke: %q", b)
		}
		ends <- err
	}))
	body, w := io.Pipe()
	go func() {
		_, _ = w.Write([]byte("hi"))
		_ = w.CloseWithError(broken)
	}()
	if e := expectKind(t, u, request("/", body), Canceled); e.BodyErr != broken {
		t.Error(e)
	}
	nettest.Within(t, ends, "the end of the upstream's connection")
}

func TestABodyShorterThanItsLength(t *testing.T) {
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		p.head()
		_ = p.ended()
	}))
	r := request("/", strings.NewReader("hell"))
	r.ContentLength = 5
	if e := expectKind(t, u, r, Canceled); e.BodyErr != http1.ErrLength {
		t.Error(e)
	}
}
