package admin

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// listener hands a server the far ends of net.Pipe.
type listener struct {
	conns chan net.Conn
	done  chan struct{}
}

func newListener() *listener { return &listener{make(chan net.Conn), make(chan struct{})} }

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *listener) Close() error   { close(l.done); return nil }
func (l *listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9090} }

func (l *listener) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	l.conns <- far
	return near, nil
}

func serve(h http.Handler) (*Server, *listener, *http.Client) {
	s, l := NewServer(h, slog.New(slog.DiscardHandler)), newListener()
	s.Start(l)
	return s, l, &http.Client{Transport: &http.Transport{DialContext: l.dial, DisableKeepAlives: true}}
}

// What the files say is taken up, whether or not who asked for it waits.
func TestAReloadOutlastsItsAsker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTester("")
		ctx, leave := context.WithCancel(t.Context())
		was := h.generation
		h.reloading = func() {
			leave()
			time.Sleep(time.Second) // of the bubble: the server learns of it meanwhile
		}
		s, _, c := serve(h.h)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1:9090/reload", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := c.Do(req); !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v, %v", resp, err)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if h.generation != was+1 {
			t.Error("the reload was given up")
		}
	})
}

func TestServerServesAndShutsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, c := serve(newTester("").h)
		resp, err := c.Get("http://127.0.0.1:9090/livez")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v, %s, %v", resp.Status, b, err)
		}
		resp.Body.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestShutdownEndsProfiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entered := make(chan struct{})
		s, _, c := serve(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done() // as a profile waits for its seconds
		}))
		go func() {
			if resp, err := c.Get("http://127.0.0.1/debug/pprof/profile"); err == nil {
				resp.Body.Close()
			}
		}()
		<-entered
		start := time.Now()
		if err := s.Shutdown(t.Context()); err != nil || time.Since(start) > 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestShutdownCutsOffWhatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entered, release := make(chan struct{}), make(chan struct{})
		s, _, c := serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			close(entered)
			<-release
		}))
		cut := make(chan error, 1)
		go func() {
			_, err := c.Get("http://127.0.0.1/")
			cut <- err
		}()
		<-entered
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-cut; err == nil {
			t.Error("the answer was not cut off")
		}
		close(release)
	})
}

func TestALongAnswerIsNotCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, c := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
				refuse(w, 500, "cancelled")
			case <-time.After(5 * time.Minute):
				show(w, "whole")
			}
		}))
		resp, err := c.Get("http://127.0.0.1/debug/pprof/profile?seconds=300")
		if err != nil || resp.StatusCode != 200 {
			t.Errorf("%v, %v", resp, err)
		} else {
			resp.Body.Close()
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestSlowRequestsAreCutOff(t *testing.T) {
	for name, part := range map[string]string{
		"head": "GET /livez HTTP/1.1\r\n",
		"body": "POST /debug/pprof/symbol HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n0x",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, l, _ := serve(newTester("").h)
				conn, _ := l.dial(t.Context(), "", "")
				if _, err := io.WriteString(conn, part); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				if _, err := io.Copy(io.Discard, conn); err != nil || time.Since(start) > 2*readTimeout {
					t.Errorf("closed with %v after %v, want after %v", err, time.Since(start), readTimeout)
				}
				if err := s.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Answers that net/http gives by itself, before anybody is asked for a token, are given
// up like others when nobody takes them.
func TestAnswersThatNobodyTakesAreCutOff(t *testing.T) {
	for name, request := range map[string]string{
		"probe":    "GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
		"redirect": "GET //livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
		"options":  "OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, l, _ := serve(newTester("secret").h)
				conn, _ := l.dial(t.Context(), "", "")
				if _, err := io.WriteString(conn, request); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * answerTimeout)
				synctest.Wait()
				if n := len(s.conns); n != 0 {
					t.Errorf("%d are open", n)
				}
				conn.Close()
				if err := s.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Connections that need no token take no descriptors without end, and do not keep out
// who asks: probes of whoever restarts a Weir that does not answer are among those.
func TestConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l, c := serve(newTester("").h)
		open := make([]net.Conn, maxConnections)
		for i := range open {
			open[i], _ = l.dial(t.Context(), "", "")
			if i%2 == 0 {
				_, _ = open[i].Write([]byte("GET")) // and no more
			}
			time.Sleep(patience)
		}
		start := time.Now()
		for range 2 {
			resp, err := c.Get("http://127.0.0.1:9090/livez")
			if err != nil {
				t.Fatal("nobody is answered beside those that say nothing:", err)
			}
			resp.Body.Close()
			synctest.Wait()
		}
		if n, err := open[0].Read(make([]byte, 1)); err != io.EOF || time.Since(start) > 0 {
			t.Errorf("the oldest got %d bytes, %v, after %v", n, err, time.Since(start))
		}
		go func() { _, _ = open[1].Write([]byte("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")) }()
		if n, err := open[1].Read(make([]byte, 1)); n != 1 {
			t.Errorf("one more than was needed had to go: %v", err)
		}
		open[1].Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := len(s.conns); n != 0 {
			t.Errorf("%d are counted after the end", n)
		}
	})
}

// Nobody who is being answered makes room.
func TestConnectionsThatAreAnsweredStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		s, l, c := serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-answer }))
		answers := make(chan error, maxConnections)
		for range maxConnections {
			go func() {
				resp, err := c.Get("http://127.0.0.1:9090/")
				if err == nil {
					resp.Body.Close()
				}
				answers <- err
			}()
		}
		synctest.Wait()
		start := time.Now()
		above, _ := l.dial(t.Context(), "", "")
		if n, err := above.Read(make([]byte, 1)); err != io.EOF || time.Since(start) > patience {
			t.Errorf("one more got %d bytes, %v, after %v", n, err, time.Since(start))
		}
		close(answer)
		for range maxConnections {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// An answer that is on its way makes no room for who comes: a reload that was made would
// look like one that failed.
func TestAnAnswerThatIsReadSlowlyStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l, _ := serve(newTester("").h)
		slow, _ := l.dial(t.Context(), "", "")
		if _, err := io.WriteString(slow, "POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // it is made, and nobody has read that yet
		var mute []net.Conn
		for range 2 * maxConnections {
			c, _ := l.dial(t.Context(), "", "")
			mute = append(mute, c)
			synctest.Wait()
		}
		if resp, err := http.ReadResponse(bufio.NewReader(slow), nil); err != nil || resp.StatusCode != 200 {
			t.Errorf("%v, %v", resp, err)
		}
		slow.Close()
		for _, c := range mute {
			c.Close()
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// It does where nobody waits for a request: those that take no answers keep out no probe.
func TestAnswersThatNobodyTakesMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l, c := serve(newTester("secret").h)
		var slow []net.Conn
		for range maxConnections {
			conn, _ := l.dial(t.Context(), "", "")
			if _, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			slow = append(slow, conn)
			time.Sleep(patience)
		}
		resp, err := c.Get("http://127.0.0.1:9090/livez")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		for i, conn := range slow {
			if n, _ := conn.Read(make([]byte, 1)); n != min(i, 1) {
				t.Errorf("%d of %d: %d bytes", i, len(slow), n)
			}
			conn.Close()
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Nothing is done for a connection that had to go when its request was read.
func TestNothingIsDoneForWhoHadToGo(t *testing.T) {
	s := NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was") }), slog.New(slog.DiscardHandler))
	gone, _ := net.Pipe()
	r := httptest.NewRequestWithContext(context.WithValue(t.Context(), connection{}, gone), http.MethodPost, "/reload", nil)
	defer func() {
		if recover() != http.ErrAbortHandler {
			t.Error("it goes on")
		}
	}()
	s.http.Handler.ServeHTTP(httptest.NewRecorder(), r)
}

// A thousand who ask at once are answered, though few are open at once.
func TestAThousandCallsAtOnceAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, c := serve(newTester("").h)
		const calls = 1000
		answers := make(chan error, calls)
		for range calls {
			go func() {
				resp, err := c.Get("http://127.0.0.1:9090/readyz")
				if err == nil {
					resp.Body.Close()
				}
				answers <- err
			}()
		}
		failed := 0
		for range calls {
			if err := <-answers; err != nil {
				failed++
			}
		}
		if failed > 0 {
			t.Errorf("%d of %d failed", failed, calls)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
