//go:build linux

package upstream

import (
	"sync"
	"testing"
	"time"

	"weir/proxy/config"
	"weir/proxy/http1"

	"golang.org/x/sys/unix"
)

func TestAStreamThatWaitsHasKeepAlives(t *testing.T) {
	next := make(chan struct{})
	u := to(t, config.Upstream{}, backend(t, func(p *peer) {
		p.head()
		p.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for range next {
			p.send("1\r\nx\r\n")
		}
	}))
	var resp http1.Response
	e, err := u.Do(request("/", nil), &resp)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Finish(false)
	defer close(next)
	for deadline := time.Now().Add(patience); ; {
		var sending sync.WaitGroup
		sending.Go(func() { next <- struct{}{} }) // most often the read waits by then
		_, err := e.Body.Next()
		sending.Wait()
		if err != nil {
			t.Fatal(err)
		}
		on := 0
		_ = e.c.raw.Control(func(fd uintptr) {
			on, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		})
		if on == 1 && err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("SO_KEEPALIVE is %d (%v)", on, err)
		}
	}
}
