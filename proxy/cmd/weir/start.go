package main

import (
	"context"
	"log/slog"

	"weir/proxy/config"
	"weir/proxy/gateway"
)

// startGateway is the starter of a real gateway.
func startGateway(version string) starter {
	return func(ctx context.Context, cfg *config.Config, log *slog.Logger) (runner, error) {
		g, err := gateway.New(ctx, cfg, gateway.Options{Log: log, Version: version})
		if err != nil {
			return nil, err
		}
		return g, nil
	}
}
