package upstream

import (
	"io"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	healthEvery   = 5 * time.Second
	healthTimeout = 5 * time.Second
	healthFails   = 2        // in a row make a target unhealthy; one success heals it
	healthBody    = 64 << 10 // of an answer, read so that its connection can be kept
)

// watchHealth asks t for path until Close, the first time at once.
func (u *Upstream) watchHealth(t *target, path string) {
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	fails := 0
	for {
		ok := false
		u.panicked.Contain(func() { ok = u.healthy(t, path) })
		select {
		case <-u.closed:
			return
		default:
		}
		if ok {
			fails = 0
		} else {
			fails++
		}
		if down := fails >= healthFails; t.unhealthy.Swap(down) != down {
			u.log.Warn("upstream health changed", "upstream", u.name, "url", t.url, "healthy", !down)
		}
		select {
		case <-u.closed:
			return
		case <-tick.C:
		}
	}
}

// healthy asks once: 2xx and 3xx are healthy.
func (u *Upstream) healthy(t *target, path string) bool {
	var h fasthttp.RequestHeader
	h.SetMethod(fasthttp.MethodGet)
	h.SetRequestURI(path)
	h.SetHost(t.host)
	h.SetUserAgent("weir-health")
	r := &Request{Header: &h, Timeout: healthTimeout, Watch: u.untilClosed}
	e := &Exchange{u: u, watch: r.Watch, timeout: r.Timeout}
	defer func() {
		e.watch = nil
		e.stopWatch()
	}()
	var resp fasthttp.ResponseHeader
	if err := e.attempt(t, r, appendHead(nil, r), true, &resp); err != nil {
		return false
	}
	clean := true
	if e.Body != nil {
		limit := time.AfterFunc(healthTimeout, e.Cancel)
		_, err := io.CopyN(io.Discard, e.Body, healthBody)
		limit.Stop()
		clean = err == io.EOF
	}
	e.Finish(clean)
	return e.Info.Status >= 200 && e.Info.Status < 400
}

// untilClosed is a watch that calls gone when u closes.
func (u *Upstream) untilClosed(gone func()) (stop func()) {
	stopped := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		select {
		case <-u.closed:
			u.panicked.Contain(gone)
		case <-stopped:
		}
	})
	return sync.OnceFunc(func() {
		close(stopped)
		done.Wait()
	})
}
