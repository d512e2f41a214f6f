package main

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"

	"weir/proxy/config"
	"weir/proxy/gateway"
)

// startGateway is the starter of a real gateway.
func startGateway(version string) starter {
	return func(ctx context.Context, cfg *config.Config, log *slog.Logger) (runner, error) {
		g, err := gateway.New(ctx, cfg, gateway.Options{Log: log, Version: version, Loops: tune()})
		if err != nil {
			return nil, err
		}
		return g, nil
	}
}

// gcPercent is lower than Go's own: what allocates is rare in Weir, and what it
// keeps, queues and policies, counts for more than the collector's time.
const gcPercent = 50

// tune sets the runtime up for the gateway, unless the environment does, and
// returns the number of loops for its connections: one for each processor. Each of
// them keeps a P while it waits, so everything else gets as many again
// (docs/RATIONALE.md, "Why twice as many Ps as processors?").
func tune() (loops int) {
	callEarly()
	loops = runtime.GOMAXPROCS(0)
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(2 * loops)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	return loops
}
