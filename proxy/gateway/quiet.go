package gateway

import (
	"context"
	"log/slog"
	"time"

	"weir/proxy/relay"
)

// quiet is a handler that passes warnings on only as often as faults may be
// told: a flood of refused requests is no flood of lines.
type quiet struct {
	slog.Handler
	faults *relay.FaultLog
}

// Handle implements slog.Handler.
func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if r.Level == slog.LevelWarn {
		suppressed, ok := q.faults.Allow(time.Now())
		if !ok {
			return nil
		}
		r.AddAttrs(slog.Int64("suppressed", suppressed))
	}
	return q.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quiet{q.Handler.WithAttrs(attrs), q.faults}
}

// WithGroup implements slog.Handler.
func (q quiet) WithGroup(name string) slog.Handler {
	return quiet{q.Handler.WithGroup(name), q.faults}
}
