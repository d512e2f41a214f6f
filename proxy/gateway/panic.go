package gateway

import (
	"fmt"
	"time"

	"weir/proxy/crash"
	"weir/proxy/metrics"
)

// panicked returns the report of panics contained in one place. Each is counted,
// and logged with its stack; of a flood of them some are.
func (g *Gateway) panicked(in metrics.Place, args ...any) crash.Report {
	return func(v any, stack []byte) {
		g.metrics.Panics(in).Inc()
		if n, ok := g.panics.Allow(time.Now(), "panic"); ok {
			g.log.Error("panic", append([]any{"in", in.String(), "panic", fmt.Sprint(v), "stack", string(stack), "suppressed", n}, args...)...)
		}
	}
}
