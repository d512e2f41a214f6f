package upstream

import (
	"io"
	"sync"
	"testing"
	"time"

	"weir/proxy/config"
	"weir/proxy/http1"
	"weir/proxy/nettest"
)

func TestAClientThatLeavesCancels(t *testing.T) {
	for _, when := range []string{"before the answer", "during the answer"} {
		t.Run(when, func(t *testing.T) {
			ended := make(chan struct{})
			u := to(t, config.Upstream{}, backend(t, func(p *peer) {
				p.head()
				if when == "during the answer" {
					p.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell")
				}
				_ = p.ended()
				close(ended)
			}))
			r := request("/", nil)
			stopped := 0
			r.Watch = func(gone func()) func() {
				timer := time.AfterFunc(20*time.Millisecond, gone)
				return func() {
					timer.Stop()
					stopped++
				}
			}
			if when == "before the answer" {
				expectKind(t, u, r, Canceled)
			} else {
				var resp http1.Response
				// Without a watch until the head is here.
				watch := r.Watch
				r.Watch = nil
				e, err := u.Do(r, &resp)
				if err != nil {
					t.Fatal(err)
				}
				e.watch = watch
				if b, err := io.ReadAll(e.Body); string(b) != "hell" || err == nil || !e.Canceled() {
					t.Errorf("%q %v", b, err)
				}
				e.Finish(false)
			}
			nettest.Within(t, ended, "the end of the upstream's connection")
			if stopped != 1 {
				t.Errorf("the watch was stopped %d times", stopped)
			}
		})
	}
}

func TestCancelFromElsewhere(t *testing.T) {
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		p.head()
		p.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
		_ = p.ended()
	}))
	var resp http1.Response
	e, err := u.Do(request("/", nil), &resp)
	if err != nil {
		t.Fatal(err)
	}
	var elsewhere sync.WaitGroup
	elsewhere.Go(e.Cancel)
	if _, err := e.Body.Next(); err == nil || err == io.EOF {
		t.Error(err)
	}
	elsewhere.Wait()
	e.Finish(true)
	if s := u.Status(); s[0].Idle != 0 || s[0].InUse != 0 {
		t.Errorf("%+v", s)
	}
}

func TestACancelBeforeThereIsAConnection(t *testing.T) {
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		p.head()
		p.answer("ok")
		_ = p.ended()
	}))
	expectFetch(t, u, request("/", nil), "ok")
	r := request("/", nil)
	for _, what := range []string{"a kept one", "a new one"} {
		e := newExchange(u, r)
		e.Cancel()
		var resp http1.Response
		if err := e.attempt(u.targets[0], false, r, appendHead(nil, r), true, &resp); err == nil || err.Kind != Canceled {
			t.Errorf("%s: %v", what, err)
		}
		e.release()
		if s := u.Status(); s[0].Idle != 0 || s[0].InUse != 0 {
			t.Errorf("%s: %+v", what, s)
		}
	}
}

// It would else keep others from a target that is back, for connect_timeout.
func TestACancelLeavesTheTrialToOthers(t *testing.T) {
	u := to(t, config.Upstream{ConnectTimeout: time.Minute}, counting(t), counting(t))
	u.targets[1].unhealthy.Store(true)
	u.targets[0].connectFailed(longAgo, longAgo)
	r := request("/", nil)
	e := newExchange(u, r)
	e.Cancel()
	var resp http1.Response
	tried, trial := u.pick(nil)
	if err := e.attempt(tried, trial, r, appendHead(nil, r), true, &resp); err == nil || err.Kind != Canceled {
		t.Error(err)
	}
	e.release()
	if !u.targets[0].usable(time.Now()) {
		t.Error("nobody else may try")
	}
}
