package upstream

import (
	"errors"
	"strings"
	"testing"

	"weir/proxy/config"
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
	if stack := <-told; !strings.Contains(stack, "(*Upstream).check") {
		t.Error(stack)
	}
	u.Close()
}
