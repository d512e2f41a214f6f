package upstream

import (
	"errors"
	"io"
	"strings"
	"testing"

	"weir/proxy/config"
	"weir/proxy/http1"
	"weir/proxy/nettest"
)

// badBody panics when it is read.
type badBody struct{}

func (badBody) Read([]byte) (int, error) { panic("made to") }

// A panic in the goroutine that sends a request's body ends that exchange: the
// upstream never takes what it has for the whole, and others are served.
func TestAPanicInABodyEndsItsExchange(t *testing.T) {
	told := make(chan string, 10)
	ended := make(chan error, 1)
	url := backend(t, func(p *peer) {
		if p.n > 1 {
			p.head()
			p.answer("fine")
			return
		}
		p.head()
		ended <- p.ended()
	})
	u, err := New(&config.Upstream{Name: "test", URLs: []string{url}}, Options{Panic: func(_ any, stack []byte) { told <- string(stack) }})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if got, err := fetch(u, request("/", badBody{})); !errors.Is(err, errPanicked) {
		t.Errorf("got %q, %v", got, err)
	}
	if stack := <-told; !strings.Contains(stack, "badBody") {
		t.Error(stack)
	}
	<-ended
	expectFetch(t, u, request("/", nil), "fine")
	if n := u.Status()[0].InUse; n != 0 {
		t.Errorf("%d connections are in use", n)
	}
}

// A panic in a health check is one that failed; the next ones go on, and Close
// joins them.
func TestAPanicInAHealthCheckIsAFailure(t *testing.T) {
	told := make(chan string, 10)
	u, err := New(&config.Upstream{Name: "test", URLs: []string{"demo:"}, HealthPath: "/"}, Options{
		Demo:  func() string { panic("made to") },
		Panic: func(_ any, stack []byte) { told <- string(stack) },
	})
	if err != nil {
		t.Fatal(err)
	}
	u.Watch()
	if stack := <-told; !strings.Contains(stack, "(*Upstream).check") {
		t.Error(stack)
	}
	u.Close()
}

// A panic of what is called while the answer is waited for leaves no connection behind,
// and nothing that sends the body.
func TestAPanicInAnExchangeLeavesNoConnection(t *testing.T) {
	for name, body := range map[string]io.Reader{"without a body": nil, "with one that goes on": endless{}} {
		ended := make(chan error, 1)
		u := to(t, config.Upstream{}, backend(t, func(p *peer) {
			p.head()
			p.send("HTTP/1.1 103 Early Hints\r\n\r\n")
			ended <- p.ended()
		}))
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			r := request("/", body)
			r.Interim = func() error { panic("made to") }
			_, _ = u.Do(r, new(http1.Response))
		}()
		nettest.Within(t, ended, name)
		if n := u.Status()[0].InUse; n != 0 {
			t.Errorf("%s: %d connections are in use", name, n)
		}
	}
}
