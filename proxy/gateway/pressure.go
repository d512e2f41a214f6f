package gateway

import (
	"time"

	"weir/proxy/metrics"
)

// pressurePause is at least between two passes of shedding: who waits for memory
// asks again and again, and with many tunnels a pass takes long.
const pressurePause = 5 * time.Millisecond

// askForShedding is what a tunnel calls when the memory budget is full.
func (g *Gateway) askForShedding() {
	select {
	case g.pressure <- struct{}{}:
	default:
	}
}

// shedOnPressure sheds what can be shed when a tunnel found no memory. It ends with the
// gateway.
func (g *Gateway) shedOnPressure() {
	paced(g.pressure, g.stop, pressurePause, func() {
		g.panicked(metrics.InGateway).Contain(g.shedAll)
	})
}

// paced calls do for what is asked, the first time at once, and waits for pause
// behind each call. It returns when stop is closed.
func paced(asked, stop <-chan struct{}, pause time.Duration, do func()) {
	for {
		select {
		case <-asked:
		case <-stop:
			return
		}
		do()
		select {
		case <-time.After(pause):
		case <-stop:
			return
		}
	}
}

// shedAll has every tunnel shed whose memory is short: where a route's own is, those of
// others would lose their messages for nothing.
func (g *Gateway) shedAll() {
	for _, t := range g.all() {
		if t.Route().Memory.Short() {
			t.Shed()
		}
	}
}
