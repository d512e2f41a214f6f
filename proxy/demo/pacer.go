package demo

import (
	"math"
	"time"
)

// tick is the shortest wait: faster feeds come in small bursts instead of
// waking up for every event.
const tick = 2 * time.Millisecond

// pacer spreads events evenly over time.
type pacer struct {
	rate  int       // per second
	began time.Time // when the first was due
	given int64     // handed out, or given up as too late
}

func newPacer(rate int) *pacer { return &pacer{rate: rate, began: time.Now()} }

// wait returns how many events are due, at least one, or 0 when stop closed or
// end fired (either may be nil). A reader that was slow is not flooded with all that it missed: at most a
// tenth of a second's worth is made up for.
func (p *pacer) wait(stop <-chan struct{}, end <-chan time.Time) int {
	for {
		select {
		case <-stop:
			return 0
		case <-end:
			return 0
		default:
		}
		if n := p.due(time.Now()); n > 0 {
			return n
		}
		t := time.NewTimer(max(tick, time.Until(p.at(p.given))))
		select {
		case <-t.C:
		case <-stop:
			t.Stop()
			return 0
		case <-end:
			t.Stop()
			return 0
		}
	}
}

func (p *pacer) due(now time.Time) int {
	elapsed := now.Sub(p.began)
	// The first is due at once; a nanosecond makes up for at's rounding down.
	passed := int64(math.Floor(float64(elapsed+1)*float64(p.rate)/float64(time.Second))) + 1
	n := passed - p.given
	if n <= 0 {
		return 0
	}
	p.given = passed
	return int(min(n, int64(max(1, p.rate/10))))
}

// at is when the n-th event, from zero, is due.
func (p *pacer) at(n int64) time.Time {
	return p.began.Add(time.Duration(float64(n) * float64(time.Second) / float64(p.rate)))
}
