package http1

import (
	"sync"
	"sync/atomic"
	"time"
)

// watcher waits, beside a handler, for the client to leave.
type watcher struct {
	c        *conn
	gone     func()
	stopping atomic.Bool
	done     sync.WaitGroup
}

// Watch calls gone once, from another goroutine or a loop, if the client disconnects
// before stop is called; a client that only ends its sending side counts as
// gone. stop joins what runs for it; gone must not call it, nor wait. Pipelined
// bytes stay unread. Body must not be read meanwhile.
func (x *Exchange) Watch(gone func()) (stop func()) {
	if x.c.raw == nil {
		return func() {}
	}
	if x.c.looped != nil {
		if stop, ok := x.c.looped.OnHangup(gone); ok {
			return stop
		}
	}
	w := &watcher{c: x.c, gone: gone}
	w.done.Go(func() { w.c.srv.panicked().Contain(w.run) })
	return w.stop
}

// run ends when the client has gone, or with stop.
func (w *watcher) run() {
	for {
		if err := w.c.nc.SetReadDeadline(time.Time{}); err != nil {
			return
		}
		if w.stopping.Load() {
			return
		}
		left := false
		err := w.c.raw.Read(func(fd uintptr) bool {
			left = hungUp(fd)
			return left
		})
		switch {
		case left:
			w.gone()
			return
		case err != nil && !isTimeout(err):
			if !w.stopping.Load() {
				w.gone()
			}
			return
		}
	}
}

func (w *watcher) stop() {
	if w.stopping.Swap(true) {
		return
	}
	_ = w.c.nc.SetReadDeadline(past)
	w.done.Wait()
	w.c.armed = past
}
