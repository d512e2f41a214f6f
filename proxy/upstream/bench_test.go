package upstream

import (
	"bytes"
	"io"
	"testing"

	"weir/proxy/config"
	"weir/proxy/http1"
)

func BenchmarkKeepAlive(b *testing.B) {
	answer := bytes.Repeat([]byte("x"), 128)
	u := to(b, config.Upstream{}, serve(b, &http1.Server{Handler: func(x *http1.Exchange) {
		_ = x.Respond(200, "text/plain", answer)
	}}))
	r := request("/", nil)
	r.Watch = func(func()) func() { return func() {} }
	var resp http1.Response
	b.ReportAllocs()
	for b.Loop() {
		e, err := u.Do(r, &resp)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := e.Body.Next(); err != io.EOF {
			b.Fatal(err)
		}
		e.Finish(true)
	}
}
