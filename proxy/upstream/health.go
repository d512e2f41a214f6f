package upstream

import (
	"io"
	"sync"
	"time"

	"weir/proxy/http1"
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
	r := &Request{
		Method: []byte("GET"), Target: []byte(path), Host: []byte(t.host),
		Lines: []byte("User-Agent: weir-health\r\n"), Timeout: healthTimeout, Watch: u.untilClosed,
	}
	e := newExchange(u, r)
	var resp http1.Response
	if err := e.attempt(t, r, appendHead(nil, r), true, &resp); err != nil {
		e.stopWatch()
		e.release()
		return false
	}
	clean := true
	if e.Body != nil {
		late := make(chan struct{})
		limit := time.AfterFunc(healthTimeout, func() {
			e.Cancel()
			close(late)
		})
		_, err := io.CopyN(io.Discard, e.Body, healthBody)
		if !limit.Stop() {
			<-late
		}
		clean = err == io.EOF
	}
	status := e.Info.Status
	e.Finish(clean)
	return status >= 200 && status < 400
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
