package stream

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/nettest"
)

func TestBodiesAreBounded(t *testing.T) {
	small := withLimits(func(l *config.Limits) { l.MaxBodySize = 10 })
	none := func(t *testing.T) (addr string, asked *atomic.Int32) {
		asked = new(atomic.Int32)
		return nettest.Serve(t, func(c *net.TCPConn, _ int) { asked.Add(1); c.Close() }), asked
	}

	t.Run("by the declared length, before a byte is read", func(t *testing.T) {
		addr, asked := none(t)
		r := newRig(t, addr, small)
		client := r.dial()
		client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n")
		resp := client.response("POST")
		if p := refusal(t, resp, hostabi.PayloadTooLarge, 413); p.Limit != 10 || p.Actual != 11 || p.Retryable {
			t.Errorf("%+v", p)
		}
		if !resp.Close {
			t.Error("the connection stays, with a body on it that nobody has read")
		}
		if asked.Load() != 0 || r.faults(hostabi.PayloadTooLarge) != 1 {
			t.Errorf("the upstream was asked %d times; counted %d", asked.Load(), r.faults(hostabi.PayloadTooLarge))
		}
	})
	t.Run("a body that is here already leaves the connection usable", func(t *testing.T) {
		addr, _ := none(t)
		r := newRig(t, addr, small)
		client := r.dial()
		for range 2 {
			client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world")
			resp := client.response("POST")
			refusal(t, resp, hostabi.PayloadTooLarge, 413)
			if resp.Close {
				t.Error("the connection closes")
			}
		}
	})
	t.Run("a client that waits for 100 gets the refusal in its place", func(t *testing.T) {
		addr, _ := none(t)
		r := newRig(t, addr, small)
		client := r.dial()
		client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n")
		resp := client.response("POST")
		refusal(t, resp, hostabi.PayloadTooLarge, 413)
		if !resp.Close {
			t.Error("whether its body follows, nobody knows")
		}
		client.ended()
	})
	t.Run("by count when chunked", func(t *testing.T) {
		ended := make(chan error, 1)
		r := newRig(t, script(t, func(p *peer) {
			_, err := io.Copy(io.Discard, p.request().Body)
			ended <- err
		}), small)
		client := r.dial()
		client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n")
		client.send("5\r\nworld\r\n0\r\n\r\n")
		resp := client.response("POST")
		if p := refusal(t, resp, hostabi.PayloadTooLarge, 413); p.Limit != 10 || p.Actual != 11 || p.Detail != "request body of at least 11 bytes exceeds max_body_size 10" {
			t.Errorf("%+v", p)
		}
		if err := <-ended; err != io.ErrUnexpectedEOF {
			t.Errorf("the upstream saw its request end with %v", err)
		}
	})
	t.Run("by count when an answer is under way", func(t *testing.T) {
		ended := make(chan error, 1)
		r := newRig(t, script(t, func(p *peer) {
			req := p.request()
			p.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
			_, err := io.Copy(io.Discard, req.Body)
			ended <- err
		}), small)
		client := r.dial()
		client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n")
		resp := client.response("POST")
		expect(t, resp.Body, "ok")
		client.send("5\r\nworld\r\n")
		if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err == nil {
			t.Errorf("then %q, %v", rest, err)
		}
		if err := <-ended; err != io.ErrUnexpectedEOF {
			t.Errorf("the upstream saw its request end with %v", err)
		}
		r.await(1)
		if r.faults(hostabi.PayloadTooLarge) != 1 {
			t.Errorf("counted %d", r.faults(hostabi.PayloadTooLarge))
		}
	})
	t.Run("what is exactly as large as allowed passes", func(t *testing.T) {
		r := newRig(t, answering(t, "HTTP/1.1 204 No Content\r\n\r\n"), small)
		client := r.dial()
		for _, body := range []string{
			"Content-Length: 10\r\n\r\nhelloworld",
			"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n",
			"Content-Length: 0\r\n\r\n",
		} {
			client.send("POST / HTTP/1.1\r\nHost: a\r\n%s", body)
			if resp := client.response("POST"); resp.StatusCode != 204 {
				t.Errorf("%q: %s", body, resp.Status)
			}
		}
	})
}

func TestABrokenRequestBodyIsAnsweredWith400(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error, 1)
	r := newRig(t, script(t, func(p *peer) {
		body := p.request().Body
		_, _ = io.ReadFull(body, make([]byte, 3))
		close(began)
		_, err := io.Copy(io.Discard, body)
		ended <- err
	}))
	client := r.dial()
	client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	<-began
	client.send("zzz\r\n")
	resp := client.response("POST")
	if p := refusal(t, resp, hostabi.ProtocolError, 400); p.Retryable || !resp.Close {
		t.Errorf("%+v, close %v", p, resp.Close)
	}
	if err := <-ended; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the upstream saw its request end with %v", err)
	}
}

// An upstream that answers before it has read the body would be heard first.
func TestABrokenRequestBodyThatIsHereNeverBegins(t *testing.T) {
	r := newRig(t, nettest.Serve(t, func(c *net.TCPConn, _ int) {
		t.Error("the upstream was asked")
		c.Close()
	}))
	many, long := strings.Repeat("a: b\r\n", 129), "a: "+strings.Repeat("b", 4096)+"\r\n"
	for _, body := range []string{
		"zzz\r\n", "3\nabc\r\n", "3\r\nabcd\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\na b: c\r\n\r\n",
		"0\r\n" + many + "\r\n", "0\r\n" + long + "\r\n",
	} {
		client := r.dial()
		client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
		resp := client.response("POST")
		if p := refusal(t, resp, hostabi.ProtocolError, 400); p.Retryable || !resp.Close {
			t.Errorf("%q: %+v, close %v", body, p, resp.Close)
		}
	}
}

func TestExpectContinue(t *testing.T) {
	for _, framing := range []struct{ field, body string }{
		{"Content-Length: 5", "hello"},
		{"Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"},
	} {
		r := newRig(t, script(t, func(p *peer) {
			req := p.request()
			if req.Header.Get("Expect") != "" {
				t.Error("Expect went on")
			}
			b, _ := io.ReadAll(req.Body)
			p.send("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
		}))
		client := r.dial()
		client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n%s\r\n\r\n", framing.field)
		client.text("HTTP/1.1 100 Continue\r\n\r\n")
		client.send("%s", framing.body)
		if b, err := io.ReadAll(client.response("POST").Body); string(b) != "hello" || err != nil {
			t.Errorf("%s: %q, %v", framing.field, b, err)
		}
	}
}

func TestAnAnswerBeforeTheBodyIsReadEndsTheConnection(t *testing.T) {
	for answer, want := range map[string]string{
		"401 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno":   "no",
		"200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nseen": "seen",
		"204 Seen\r\nConnection: close\r\n\r\n":                        "",
		"303 Seen\r\nLocation: /\r\nContent-Length: 0\r\n\r\n":         "",
	} {
		r := newRig(t, script(t, func(p *peer) {
			p.request()
			p.send("HTTP/1.1 %s", answer)
			_, _ = io.Copy(io.Discard, p.br)
		}))
		client := r.dial()
		client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
		resp := client.response("POST")
		if b, err := io.ReadAll(resp.Body); string(b) != want || err != nil || !resp.Close {
			t.Errorf("%q: %q %v, close %v", answer, b, err, resp.Close)
		}
	}
}

func TestARequestBodyThatStopsIsAnswered(t *testing.T) {
	r := newRig(t, script(t, func(p *peer) {
		_, _ = io.Copy(io.Discard, p.request().Body)
	}), func(r *rig, _ *config.Upstream) { r.idleTimeout = 50 * time.Millisecond })
	client := r.dial()
	client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
	resp := client.response("POST")
	if refusal(t, resp, hostabi.ProtocolError, 400); !resp.Close {
		t.Error("the connection stays, with half a body on it")
	}
	client.ended()
}
