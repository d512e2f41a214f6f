package stream

import (
	"sync"
	"time"

	"weir/proxy/http1"
)

// silence is how long an upstream may say nothing before its client is watched:
// long enough that an answer which flows never pays for it.
const silence = 20 * time.Millisecond

// watch notices a client that leaves while its upstream is silent. A client
// that is written to, or whose body is read, is noticed by that.
//
// It belongs to the goroutine that carries the exchange; the timer's goroutine
// only starts http1's watch, and close joins that.
type watch struct {
	timer *time.Timer

	mu    sync.Mutex
	x     *http1.Exchange // nil: nobody waits
	body  *requestBody
	gone  func()
	stop  func() // of http1's watch, once started
	begun bool   // stop is set; kept by the carrying goroutine
}

// begin sets what is watched for from now on.
func (w *watch) begin(body *requestBody, gone func()) { w.body, w.gone = body, gone }

// wait is called before a read from the upstream that may block.
func (w *watch) wait(x *http1.Exchange) {
	if w.begun {
		return
	}
	w.mu.Lock()
	w.x = x
	w.mu.Unlock()
	if w.timer == nil {
		w.timer = time.AfterFunc(silence, w.fire)
	} else {
		w.timer.Reset(silence)
	}
}

// over is called after it.
func (w *watch) over() {
	if w.begun {
		return
	}
	w.timer.Stop()
	w.mu.Lock()
	w.x = nil
	w.begun = w.stop != nil
	w.mu.Unlock()
}

// fire starts the watch if somebody still waits and the body does not read the
// connection itself; else it looks again.
func (w *watch) fire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.x == nil || w.stop != nil:
	case !w.body.done():
		w.timer.Reset(silence)
	default:
		w.stop = w.x.Watch(w.gone)
	}
}

// close ends the watch; gone is not called after it.
func (w *watch) close() {
	w.mu.Lock()
	stop := w.stop
	w.x, w.stop, w.gone, w.begun = nil, nil, nil, false
	w.mu.Unlock()
	if stop != nil {
		stop()
	}
}
