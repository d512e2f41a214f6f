package main

import (
	"context"
	"errors"
	"log/slog"

	"weir/proxy/config"
	"weir/proxy/gateway"
)

// startGateway is the starter of a real gateway. Its error is of type
// config.Errors.
func startGateway(version string) starter {
	return func(ctx context.Context, cfg *config.Config, log *slog.Logger) (runner, error) {
		g, err := gateway.New(ctx, cfg, gateway.Options{Log: log, Version: version})
		if err != nil {
			return nil, problems(cfg, err)
		}
		return g, nil
	}
}

// problems lists everything in err, each with its place in the configuration
// where it has one.
func problems(cfg *config.Config, err error) (all config.Errors) {
	if several, ok := err.(config.Errors); ok {
		return several
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			all = append(all, problems(cfg, e)...)
		}
		return all
	}
	if e, ok := errors.AsType[config.Error](err); ok {
		return config.Errors{e}
	}
	if e, ok := errors.AsType[*gateway.PolicyError](err); ok {
		return config.Errors{policyProblem(cfg, e.Policy, e.Err)}
	}
	return config.Errors{{File: cfg.Path, Message: err.Error()}}
}
