package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"weir/hostabi"
	"weir/proxy/config"
)

// frames lays payloads as framed-v1.
func frames(payloads ...string) string {
	var b []byte
	for _, p := range payloads {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return string(b)
}

// chunked lays chunks as a chunked body.
func chunked(chunks ...string) string {
	var b strings.Builder
	for _, c := range chunks {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(c), c)
	}
	return b.String() + "0\r\n\r\n"
}

// framing is a policy that frames the legs always the same way.
func framingPolicy(t *testing.T, out hostabi.FramingOutput) setting {
	return withView(viewOf(t, map[hostabi.Hook]encoded{hostabi.FramingHook: &out}))
}

var (
	bothFramed     = hostabi.FramingOutput{Client: hostabi.FramedV1, Upstream: hostabi.FramedV1}
	clientFramed   = hostabi.FramingOutput{Client: hostabi.FramedV1}
	upstreamFramed = hostabi.FramingOutput{Upstream: hostabi.FramedV1}
	noneFramed     = hostabi.FramingOutput{}
)

const chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

func sized(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nETag: \"x\"\r\nAccept-Ranges: bytes\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func TestFraming(t *testing.T) {
	ab := frames("a", "", "bcd")
	const long = "Byte-stream frame length 9 exceeds maximum (8)"
	const cut = "Byte-stream ended with 6 bytes of incomplete frame data"
	for _, c := range []struct {
		name   string
		legs   hostabi.FramingOutput
		answer string
		body   string
		fault  string // part of the log line; empty: the answer ends cleanly
	}{
		{"raw passes", noneFramed, sized(ab), ab, ""},
		{"both framed: verbatim, empty frames kept", bothFramed, sized(ab), ab, ""},
		{"both framed, chunked across frames", bothFramed, chunkedHead + chunked(ab[:3], ab[3:7], ab[7:]), ab, ""},
		{"both framed and cut: never as long as was promised", bothFramed, sized(ab + frames("xyz")[:6]), ab + frames("xyz")[:5], cut},
		{"both framed and cut, chunked", bothFramed, chunkedHead + chunked(ab, frames("xyz")[:6]), ab + frames("xyz")[:6], cut},
		{"both framed and too long", bothFramed, chunkedHead + chunked(ab+frames("123456789")), ab, long},
		{"both framed and too long, with a length: what was whole arrives", bothFramed, sized(frames("one", "123456789")), frames("one"), long},
		{"only the client: one frame for each chunk", clientFramed, chunkedHead + chunked("a", "bcd", "e"), frames("a", "bcd", "e"), ""},
		{"only the client, a chunk above the maximum", clientFramed, chunkedHead + chunked("123456789"), frames("12345678", "9"), ""},
		{"only the client, a known length", clientFramed, sized("abc"), frames("abc"), ""},
		{"only the client, nothing", clientFramed, sized(""), "", ""},
		{"only the upstream: payloads alone", upstreamFramed, sized(ab), "abcd", ""},
		{"only the upstream, chunked across frames", upstreamFramed, chunkedHead + chunked(ab[:3], ab[3:7], ab[7:]), "abcd", ""},
		{"only the upstream and cut", upstreamFramed, sized(ab + frames("xyz")[:6]), "abcdxy", cut},
		{"only the upstream and too long", upstreamFramed, chunkedHead + chunked(ab, frames("123456789")), "abcd", long},
		{"only the upstream, until the connection ends", upstreamFramed, "HTTP/1.1 200 OK\r\n\r\n" + ab, "abcd", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, script(t, func(p *peer) {
				p.request()
				p.send("%s", c.answer)
			}), framingPolicy(t, c.legs), withLimits(func(l *config.Limits) { l.MaxFrameSize = 8 }))
			resp, body, err := r.get()
			if string(body) != c.body || (err == nil) != (c.fault == "") {
				t.Errorf("%q, %v; want %q", body, err, c.body)
			}
			r.await(1)
			if n := len(r.logs.lines("level=WARN", "code=framing_error", c.fault)); (n == 1) != (c.fault != "") || n != r.faults(hostabi.FramingError) {
				t.Errorf("%d lines, counted %d: %q", n, r.faults(hostabi.FramingError), r.logs.lines("level=WARN"))
			}
			if changed := c.legs == clientFramed || c.legs == upstreamFramed; changed && c.body != "" {
				if resp.ContentLength >= 0 || resp.Header["Etag"] != nil || resp.Header["Accept-Ranges"] != nil {
					t.Errorf("what was true of the upstream's bytes is still said: %v", resp.Header)
				}
			} else if strings.Contains(c.answer, "ETag") && resp.ContentLength != int64(len(c.answer)-strings.Index(c.answer, "\r\n\r\n")-4) && c.body != "" {
				t.Errorf("content length %d", resp.ContentLength)
			}
		})
	}
}

// What is true only of the bytes that the upstream sent goes from the trailer, too.
func TestTrailersOfWhatIsFramedAnew(t *testing.T) {
	for _, legs := range []hostabi.FramingOutput{clientFramed, upstreamFramed, bothFramed} {
		trailer := "Content-Digest: sha-256=:AA==:\r\nX-Sum: 1\r\nETag: \"x\"\r\n\r\n"
		r := newRig(t, answering(t, chunkedHead+strings.TrimSuffix(chunked(frames("a")), "\r\n")+trailer), framingPolicy(t, legs))
		resp, _, err := r.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if err != nil || resp.Trailer.Get("X-Sum") != "1" {
			t.Errorf("%+v: %v, %v", legs, resp, err)
			continue
		}
		if kept := resp.Trailer.Get("Content-Digest") != "" && resp.Trailer.Get("ETag") != ""; kept != (legs == bothFramed) {
			t.Errorf("%+v: %v", legs, resp.Trailer)
		}
	}
}

// A client of HTTP/1.0 is told by a reset that its stream was cut, behind what was
// whole of it.
func TestHTTP10ClientsGetWhatWasWhole(t *testing.T) {
	r := newRig(t, answering(t, chunkedHead+chunked(frames("one", "123456789"))), framingPolicy(t, bothFramed), withLimits(func(l *config.Limits) { l.MaxFrameSize = 8 }))
	c := r.dial()
	c.send("GET / HTTP/1.0\r\n\r\n")
	all, err := io.ReadAll(c.br)
	if _, body, _ := strings.Cut(string(all), "\r\n\r\n"); body != frames("one") || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q, %v", all, err)
	}
}

func TestFramesArriveAsTheyAreProduced(t *testing.T) {
	next := make(chan bool)
	r := newRig(t, script(t, func(p *peer) {
		p.request()
		p.send(chunkedHead)
		for _, chunk := range []string{"ab", "cde", "f"} {
			p.send("%x\r\n%s\r\n", len(chunk), chunk)
			<-next
		}
		p.send("0\r\n\r\n")
	}), framingPolicy(t, clientFramed))
	client := r.dial()
	client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	body := client.response("GET").Body
	for _, chunk := range []string{"ab", "cde", "f"} {
		expect(t, body, frames(chunk))
		next <- true
	}
	if rest, err := io.ReadAll(body); len(rest) > 0 || err != nil {
		t.Errorf("then %q, %v", rest, err)
	}
}

func TestFrameBytesArriveBeforeTheirFrameIsWhole(t *testing.T) {
	next := make(chan bool)
	stream := frames("abcdef")
	r := newRig(t, script(t, func(p *peer) {
		p.request()
		p.send("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(stream))
		p.send("%s", stream[:7])
		<-next
		p.send("%s", stream[7:])
	}), framingPolicy(t, upstreamFramed))
	client := r.dial()
	client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	body := client.response("GET").Body
	expect(t, body, "abc")
	close(next)
	expect(t, body, "def")
}

// A frame is not held for a header, or an empty frame, that came with it: what they
// announce may come much later.
func TestAFrameDoesNotWaitForTheNext(t *testing.T) {
	for _, behind := range []string{frames(""), frames("rest")[:4], frames("rest")[:2]} {
		r := newRig(t, script(t, func(p *peer) {
			p.request()
			p.send("%s", chunkedHead+strings.TrimSuffix(chunked(frames(""), frames("abc"), behind), "0\r\n\r\n"))
			p.ended()
		}), framingPolicy(t, upstreamFramed))
		client := r.dial()
		client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		expect(t, client.response("GET").Body, "abc")
		_ = client.Close()
	}
}

func TestFramingIsForStreamsAlone(t *testing.T) {
	const plain = "{\"ok\":true}"
	for _, c := range []struct{ name, request, answer, body string }{
		{"PUT: neither its body nor its answer", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", sized(plain), plain},
		{"DELETE", "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", sized(plain), plain},
		{"an error", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 404 Nope\r\nContent-Length: 11\r\n\r\n" + plain, plain},
		{"a part", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 206 Partial Content\r\nContent-Length: 11\r\n\r\n" + plain, plain},
		{"a redirect", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 302 Found\r\nContent-Length: 11\r\n\r\n" + plain, plain},
		{"HEAD has no body to frame", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n", ""},
	} {
		r := newRig(t, answering(t, c.answer), framingPolicy(t, upstreamFramed))
		if resp, body, err := r.exchange(c.request); string(body) != c.body || err != nil {
			t.Errorf("%s: %s %q, %v", c.name, resp.Status, body, err)
		}
	}
}

// A range of the upstream's bytes is none of what its client gets framed anew: who
// resumed a stream with it would have bytes of two streams in one.
func TestNoRangeIsAskedOfWhatIsFramedAnew(t *testing.T) {
	for _, legs := range []hostabi.FramingOutput{noneFramed, clientFramed, upstreamFramed, bothFramed} {
		seen := make(chan http.Header, 1)
		r := newRig(t, script(t, func(p *peer) {
			seen <- p.request().Header
			p.send("%s", sized(frames("a")))
		}), framingPolicy(t, legs))
		if _, _, err := r.exchange("GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=1-\r\nIf-Range: \"x\"\r\nX-Range: 1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		h := <-seen
		kept := legs == noneFramed || legs == bothFramed
		if (h.Get("Range") != "") != kept || (h.Get("If-Range") != "") != kept || h.Get("X-Range") != "1" {
			t.Errorf("%+v: %v", legs, h)
		}
	}
}

// A cache before Weir must not give the frames of one client to another that cannot
// read them, nor its own 304 for them.
func TestWhatFramingReadIsInVary(t *testing.T) {
	shape := &hostabi.Shape{FramingHeaders: []string{"x-version", "x-other"}}
	view := viewOf(t, map[hostabi.Hook]encoded{hostabi.Configure: shape, hostabi.FramingHook: &clientFramed})
	for _, c := range []struct{ method, answer, vary string }{
		{"GET", "200 OK\r\nVary: accept\r\nContent-Length: 0\r\n\r\n", "accept, x-version, x-other"},
		{"HEAD", "200 OK\r\nContent-Length: 3\r\n\r\n", "x-version, x-other"},
		{"GET", "304 Not Modified\r\n\r\n", "x-version, x-other"},
		{"GET", "404 Not Found\r\nContent-Length: 0\r\n\r\n", ""},
		{"PUT", "200 OK\r\nContent-Length: 0\r\n\r\n", ""},
	} {
		r := newRig(t, answering(t, "HTTP/1.1 "+c.answer), withView(view))
		resp, _, err := r.exchange(c.method + " / HTTP/1.1\r\nHost: a\r\n\r\n")
		if got := strings.Join(resp.Header["Vary"], ", "); err != nil || got != c.vary {
			t.Errorf("%s, %q: %q, %v", c.method, c.answer, got, err)
		}
	}
}

// Answers of POST may be streams, as those of GET.
func TestAnswersOfPOSTAreFramed(t *testing.T) {
	r := newRig(t, answering(t, chunkedHead+chunked("a", "bcd")), framingPolicy(t, clientFramed))
	if _, body, err := r.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"); string(body) != frames("a", "bcd") || err != nil {
		t.Errorf("%q, %v", body, err)
	}
}

func TestRequestBodiesAreNotFramed(t *testing.T) {
	const body = "\x00\x00\x00\x01ab" // one frame, and a byte that is none
	for _, method := range []string{"PUT", "POST"} {
		got := make(chan string, 1)
		r := newRig(t, script(t, func(p *peer) {
			b, _ := io.ReadAll(p.request().Body)
			got <- string(b)
			p.send("HTTP/1.1 204 No Content\r\n\r\n")
		}), framingPolicy(t, clientFramed))
		if _, _, err := r.exchange(method + " / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body[:2], body[2:])); err != nil {
			t.Fatal(err)
		}
		if b := <-got; b != body {
			t.Errorf("%s: %q", method, b)
		}
	}
}

func TestAFramedStreamIsAskedForAndTakenWithoutCoding(t *testing.T) {
	seen := make(chan *http.Request, 1)
	r := newRig(t, script(t, func(p *peer) {
		seen <- p.request()
		p.send("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc")
	}), framingPolicy(t, upstreamFramed))
	client := r.dial()
	client.send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
	resp := client.response("GET")
	if p := refusal(t, resp, hostabi.FramingError, 502); resp.Header["Content-Encoding"] != nil {
		t.Errorf("%+v, %v", p, resp.Header)
	}
	if got := (<-seen).Header["Accept-Encoding"]; len(got) != 1 || got[0] != "identity" {
		t.Errorf("Accept-Encoding %q", got)
	}
}

// An answer without a body has nothing that is coded, and "identity" is no coding: a
// client that was refused would send once more what was done.
func TestWhatIsNotCodedIsNotRefused(t *testing.T) {
	for _, c := range []struct {
		method, answer, body string
		status               int
	}{
		{"GET", "200 OK\r\nContent-Encoding: identity\r\nContent-Length: 5\r\n\r\n" + frames("a"), "a", 200},
		{"POST", "200 OK\r\nContent-Encoding: Identity\r\nContent-Length: 5\r\n\r\n" + frames("a"), "a", 200},
		{"POST", "204 No Content\r\nContent-Encoding: gzip\r\n\r\n", "", 204},
		{"POST", "200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", "", 200},
		{"HEAD", "200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\n", "", 200},
		{"GET", "200 OK\r\nContent-Encoding: \r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n" + frames("a"), "", 502},
		{"GET", "200 OK\r\nContent-Encoding: identity, gzip\r\nContent-Length: 5\r\n\r\n" + frames("a"), "", 502},
	} {
		r := newRig(t, answering(t, "HTTP/1.1 "+c.answer), framingPolicy(t, upstreamFramed))
		resp, body, err := r.exchange(c.method + " / HTTP/1.1\r\nHost: a\r\n\r\n")
		if err != nil || resp.StatusCode != c.status || c.status == 200 && string(body) != c.body {
			t.Errorf("%s, %q: %s %q, %v", c.method, c.answer, resp.Status, body, err)
		}
	}
}

func TestThePolicyMayNarrowTheFrameSize(t *testing.T) {
	for _, c := range []struct {
		policy uint32
		ok     bool
	}{{0, true}, {3, true}, {2, false}, {1 << 30, true}} {
		legs := bothFramed
		legs.MaxFrameSize = c.policy
		r := newRig(t, answering(t, sized(frames("abc"))), framingPolicy(t, legs), withLimits(func(l *config.Limits) { l.MaxFrameSize = 3 }))
		if _, _, err := r.get(); (err == nil) != c.ok {
			t.Errorf("%d: %v", c.policy, err)
		}
	}
	legs := bothFramed
	legs.MaxFrameSize = 1 << 30
	r := newRig(t, answering(t, sized(frames("abcd"))), framingPolicy(t, legs), withLimits(func(l *config.Limits) { l.MaxFrameSize = 3 }))
	if _, _, err := r.get(); err == nil {
		t.Error("a policy widened max_frame_size")
	}
}

// A chunk that arrives in many pieces is one frame all the same.
func TestALargeChunkIsOneFrame(t *testing.T) {
	large := strings.Repeat("0123456789", 20_000)
	r := newRig(t, script(t, func(p *peer) {
		p.request()
		p.send("%s", chunkedHead+chunked("a", large, "b", large))
	}), framingPolicy(t, clientFramed))
	if _, body, err := r.get(); err != nil || string(body) != frames("a", large, "b", large) {
		t.Errorf("%d bytes, %v; want %d", len(body), err, len(frames("a", large, "b", large)))
	}
}
