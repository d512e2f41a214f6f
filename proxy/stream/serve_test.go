package stream

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/proxy/config"
)

func TestAnswersArriveAsTheyAreProduced(t *testing.T) {
	for name, c := range map[string]struct{ head, first, second, end string }{
		"server-sent events": {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", "data: 1\n\n", "data: 2\n\n", ""},
		"chunked":            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "3\r\nabc\r\n", "3\r\ndef\r\n", "0\r\n\r\n"},
		"of a known length":  {"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", "abc", "def", ""},
	} {
		t.Run(name, func(t *testing.T) {
			go1, go2 := make(chan bool), make(chan bool)
			r := newRig(t, script(t, func(p *peer) {
				p.request()
				p.send(c.head)
				<-go1
				p.send(c.first)
				<-go2
				p.send(c.second + c.end)
			}))
			client := r.dial()
			client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			resp := client.response("GET") // the head alone arrives first
			close(go1)
			plain := strings.NewReplacer("3\r\n", "", "\r\n", "")
			expect(t, resp.Body, plain.Replace(c.first))
			close(go2)
			expect(t, resp.Body, plain.Replace(c.second))
			if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
				t.Errorf("then %q, %v", rest, err)
			}
		})
	}
}

func TestRequestsArriveAsTheyAreSent(t *testing.T) {
	for name, c := range map[string]struct{ field, first, second, end string }{
		"chunked":           {"Transfer-Encoding: chunked", "3\r\nabc\r\n", "3\r\ndef\r\n", "0\r\n\r\n"},
		"of a known length": {"Content-Length: 6", "abc", "def", ""},
	} {
		t.Run(name, func(t *testing.T) {
			arrived := make(chan string)
			r := newRig(t, script(t, func(p *peer) {
				req := p.request()
				for range 2 {
					b := make([]byte, 3)
					_, _ = io.ReadFull(req.Body, b)
					arrived <- string(b)
				}
				_, _ = io.Copy(io.Discard, req.Body)
				p.send("HTTP/1.1 204 No Content\r\n\r\n")
			}))
			client := r.dial()
			client.send("POST / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n%s", c.field, c.first)
			if got := <-arrived; got != "abc" {
				t.Errorf("first %q", got)
			}
			client.send(c.second + c.end)
			if got := <-arrived; got != "def" {
				t.Errorf("then %q", got)
			}
			if resp := client.response("POST"); resp.StatusCode != 204 {
				t.Errorf("status %d", resp.StatusCode)
			}
		})
	}
}

func TestAnAnswerMayComeBeforeTheRequestIsOver(t *testing.T) {
	r := newRig(t, script(t, func(p *peer) {
		req := p.request()
		p.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for {
			b := make([]byte, 3)
			n, err := io.ReadFull(req.Body, b)
			if n > 0 {
				p.send("%x\r\n%s\r\n", n, b[:n])
			}
			if err != nil {
				break
			}
		}
		p.send("0\r\n\r\n")
	}))
	client := r.dial()
	client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	resp := client.response("POST")
	for _, word := range []string{"abc", "def", "ghi"} {
		client.send("3\r\n%s\r\n", word)
		expect(t, resp.Body, word)
	}
	client.send("0\r\n\r\n")
	if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
		t.Errorf("then %q, %v", rest, err)
	}
}

func TestBodiesAreNeverHeldWhole(t *testing.T) {
	const size = 64 << 20
	r := newRig(t, script(t, func(p *peer) {
		req := p.request()
		p.send("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
		_, _ = io.Copy(p.Conn, req.Body)
	}), withLimits(func(l *config.Limits) { l.MaxBodySize = size }))
	client := r.dial()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	in, out := sha256.New(), sha256.New()
	sent := make(chan error, 1)
	go func() {
		_, err := fmt.Fprintf(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size)
		block := []byte(strings.Repeat("0123456789abcdef", 4096))
		for n := 0; n < size && err == nil; n += len(block) {
			in.Write(block)
			_, err = client.Write(block)
		}
		sent <- err
	}()
	n, err := io.Copy(out, client.response("POST").Body)
	if n != size || err != nil || <-sent != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if string(in.Sum(nil)) != string(out.Sum(nil)) {
		t.Error("the bytes differ")
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 && !raced {
		t.Errorf("%d bytes were allocated for %d that passed", took, size)
	}
}

func TestAClientThatLeavesCancelsItsRequest(t *testing.T) {
	for name, c := range map[string]struct {
		request string
		answer  string // what the backend sends before the client leaves
		read    int    // bytes of its body that the client waits for
	}{
		"before the head":             {request: "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		"while the body is silent":    {request: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", read: 3},
		"after its request body":      {request: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", read: 3},
		"within its request body":     {request: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"},
		"within both bodies":          {request: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", read: 3},
		"while an error says nothing": {request: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", answer: "HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\n", read: -1},
	} {
		t.Run(name, func(t *testing.T) {
			asked, ended := make(chan bool), make(chan bool)
			r := newRig(t, script(t, func(p *peer) {
				defer close(ended)
				p.request()
				p.send(c.answer)
				close(asked)
				_, _ = io.Copy(io.Discard, p.br) // what is left of the body
				p.ended()
			}))
			client := r.dial()
			client.send(c.request)
			<-asked
			if c.read > 0 {
				expect(t, client.response("GET").Body, "abc"[:c.read])
			}
			client.Close()
			<-ended
			r.await(1)
			if found := r.logs.lines("level=WARN"); len(found) > 0 {
				t.Errorf("a client that leaves is no fault: %s", found)
			}
		})
	}
}

// Neither its request body is read then, nor anything written to it.
func TestAClientThatLeavesCancelsAnUploadThatNobodyTakes(t *testing.T) {
	const size = 64 << 20 // far more than all sockets take
	for name, answer := range map[string]string{
		"before the head": "",
		"within the body": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
	} {
		t.Run(name, func(t *testing.T) {
			left, ended := make(chan struct{}), make(chan error)
			r := newRig(t, script(t, func(p *peer) {
				p.request()
				p.send(answer)
				<-left
				_, err := io.Copy(io.Discard, p.br)
				ended <- err
			}), withLimits(func(l *config.Limits) { l.MaxBodySize = size }))
			client := r.dial()
			client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size)
			if answer != "" {
				expect(t, client.response("POST").Body, "abc")
			}
			for block := make([]byte, 64<<10); ; {
				_ = client.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)) // no progress for this long: it is stalled
				if _, err := client.Write(block); err != nil {
					break
				}
			}
			_ = client.Conn.(*net.TCPConn).SetLinger(0) // an end would wait behind what is not read
			client.Close()
			r.await(1)
			close(left)
			if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the kernel kept what it had for the backend: %v", err)
			}
			if found := r.logs.lines("level=WARN"); len(found) > 0 {
				t.Errorf("a client that leaves is no fault: %s", found)
			}
		})
	}
}

func TestAClientThatLeavesCancelsAnAnswerThatFlows(t *testing.T) {
	r := newRig(t, script(t, func(p *peer) {
		p.request()
		p.send("HTTP/1.1 200 OK\r\n\r\n")
		for block := make([]byte, 64<<10); ; {
			if _, err := p.Write(block); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the backend was left waiting")
				}
				return
			}
		}
	}))
	client := r.dial()
	client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	_, _ = io.CopyN(io.Discard, client.response("GET").Body, 1<<20)
	client.Close()
	r.await(1)
}

func TestASlowClientSlowsItsUpstream(t *testing.T) {
	const size = 256 << 20 // far more than all sockets take
	stalled := make(chan int, 1)
	r := newRig(t, script(t, func(p *peer) {
		p.request()
		p.send("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
		block, n := make([]byte, 64<<10), 0
		for n < size {
			_ = p.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)) // no progress for this long: it is stalled
			k, err := p.Write(block[:min(len(block), size-n)])
			if n += k; err != nil {
				select {
				case stalled <- n:
				default:
				}
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					return
				}
			}
		}
	}))
	client := r.dial()
	client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if n := <-stalled; n > size/4 {
		t.Errorf("%d bytes were taken from the upstream for a client that reads nothing", n)
	}
	_ = client.SetDeadline(time.Now().Add(2 * patience))
	if n, err := io.Copy(io.Discard, client.response("GET").Body); n != size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestManyExchangesOnOneConnection(t *testing.T) {
	r := newRig(t, answering(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"))
	client := r.dial()
	for i := range 50 {
		switch i % 3 {
		case 0:
			client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		case 1:
			client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
		case 2:
			client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
		}
		if b, err := io.ReadAll(client.response("GET").Body); string(b) != "ok" || err != nil {
			t.Fatalf("exchange %d: %q, %v", i, b, err)
		}
	}
	r.await(50)
	if n := len(r.logs.lines("level=DEBUG", "http exchange", "route=r", "peer="+client.LocalAddr().String(), "status=200", "bytes=2", "duration_ms=")); n != 50 {
		t.Errorf("%d debug lines, want one for each of 50 exchanges", n)
	}
	if lines := r.logs.lines("http exchange", "duration_ms=0 "); len(lines) > 0 {
		t.Errorf("took no time: %q", lines)
	}
}

func TestHTTP10ClientsGetWhatTheyKnow(t *testing.T) {
	r := newRig(t, answering(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"))
	c := r.dial()
	c.send("GET / HTTP/1.0\r\n\r\n")
	all, err := io.ReadAll(c.br)
	if err != nil || strings.Contains(string(all), "chunked") || !strings.HasSuffix(string(all), "\r\n\r\nok") {
		t.Errorf("%q, %v", all, err)
	}
}
