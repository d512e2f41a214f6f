package upstream

import (
	"errors"
	"fmt"
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

// watchHealth asks t until Close, the first time at once.
func (u *Upstream) watchHealth(t *target) {
	fails := 0 // in a row
	if t.unhealthy.Load() {
		fails = healthFails // as the Upstream before saw
	}
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for {
		err := errors.New("weir itself failed")
		u.panicked.Contain(func() { err = u.check(t, u.healthPath) })
		select {
		case <-u.closed:
			return
		default:
		}
		if t.checked(err, &fails) {
			u.log.Warn("upstream health changed", "upstream", u.name, "url", t.url, "healthy", err == nil)
		}
		select {
		case <-u.closed:
			return
		case <-tick.C:
		}
	}
}

// checked takes what a check found, behind so many in a row that failed; true: t's
// health has changed. One that Weir had not the means for found nothing, and too few that
// failed say nothing.
func (t *target) checked(err error, fails *int) (changed bool) {
	if _, lack := errors.AsType[*lackError](err); lack {
		return false
	}
	*fails++
	if err == nil {
		*fails = 0
	} else if *fails < healthFails {
		return false
	}
	down := err != nil
	return t.unhealthy.Swap(down) != down
}

// check asks once: 2xx and 3xx are healthy.
func (u *Upstream) check(t *target, path string) error {
	r := &Request{
		Method: []byte("GET"), Target: []byte(path), Host: []byte(t.host),
		Lines: []byte("User-Agent: weir-health\r\n"), Timeout: healthTimeout, Watch: u.untilClosed,
	}
	e := newExchange(u, r)
	var resp http1.Response
	if err := e.attempt(t, t.unproven(time.Now()), r, appendHead(nil, r), true, &resp); err != nil {
		e.stopWatch()
		e.release()
		return err
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
	if status < 200 || status >= 400 {
		return fmt.Errorf("status %d", status)
	}
	return nil
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
