package demo

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPacerKeepsTheRate(t *testing.T) {
	for _, rate := range []int{1, 7, 100, 50_000} {
		synctest.Test(t, func(t *testing.T) {
			end := time.After(10*time.Second - time.Nanosecond)
			p, n := newPacer(rate), 0
			for got := p.wait(nil, end); got > 0; got = p.wait(nil, end) {
				n += got
			}
			// A burst may still be due when the time is over.
			if n > 10*rate || n < 10*rate-1-rate/400 {
				t.Errorf("rate %d: %d events in 10 s", rate, n)
			}
		})
	}
}

func TestPacerDoesNotMakeUpForLongWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(1000)
		<-time.After(time.Minute)
		if n := p.wait(nil, nil); n != 100 {
			t.Errorf("%d events at once after a minute, want a tenth of a second's 100", n)
		}
		if n := p.wait(nil, nil); n > 3 {
			t.Errorf("%d more at once", n)
		}
	})
}

func TestPacerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		p := newPacer(1)
		p.wait(stop, nil)
		done := make(chan int)
		go func() { done <- p.wait(stop, nil) }()
		synctest.Wait()
		close(stop)
		if n := <-done; n != 0 {
			t.Errorf("%d events after the stop", n)
		}
	})
}
