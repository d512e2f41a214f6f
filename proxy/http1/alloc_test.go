//go:build !race

package http1

import (
	"io"
	"testing"
)

func TestAKeptConnectionAllocatesNothingPerRequest(t *testing.T) {
	c := dial(t, listen(t, &Server{Handler: hello}))
	request, answer := []byte(get), make([]byte, len(gotA))
	if n := testing.AllocsPerRun(500, func() {
		_, _ = c.nc.Write(request)
		if _, err := io.ReadFull(c.nc, answer); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations per request", n)
	}
}

func TestParsingAHeadAllocatesNothing(t *testing.T) {
	head := []byte("POST /a?b HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\nConnection: x, close\r\nCookie: a=b\r\n\r\n")
	var r Request
	if n := testing.AllocsPerRun(100, func() {
		if _, err := r.Parse(head); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
