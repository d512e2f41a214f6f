//go:build !race

package upstream

import (
	"io"
	"testing"

	"weir/proxy/config"
	"weir/proxy/http1"
)

func TestAKeptConnectionAllocatesNothing(t *testing.T) {
	hello := []byte("hello")
	u := to(t, config.Upstream{}, serve(t, &http1.Server{Handler: func(x *http1.Exchange) {
		_ = x.Respond(200, "text/plain", hello)
	}}))
	r := request("/", nil)
	r.Watch = func(func()) func() { return func() {} }
	var resp http1.Response
	if n := testing.AllocsPerRun(500, func() {
		e, err := u.Do(r, &resp)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Body.Next(); err != io.EOF {
			t.Error(err)
		}
		e.Finish(true)
	}); n > 0 {
		t.Errorf("%v allocations per request", n)
	}
}
