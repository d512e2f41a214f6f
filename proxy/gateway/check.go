package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"weir/hostabi/wasmhost"
	"weir/proxy/config"
	"weir/proxy/policy"
	"weir/proxy/upstream"
)

// Check loads, configures and probes every policy of cfg whose module could be
// read, an empty one too, and prepares every upstream, as New and Reload do before
// they change anything. It returns what is wrong with all that fail.
func Check(ctx context.Context, cfg *config.Config) (problems config.Errors) {
	for _, name := range slices.Sorted(maps.Keys(cfg.Policies)) {
		if _, err := policyKey(cfg.Policies[name]); err != nil || cfg.Policies[name].Bytes == nil {
			continue // told by config
		}
		p, err := policy.Load(ctx, policy.Options{Config: *cfg.Policies[name], Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			problems = append(problems, policyProblem(cfg, name, err))
			continue
		}
		p.Close()
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Upstreams)) {
		u, err := upstream.New(cfg.Upstreams[name], upstream.Options{Demo: func() string { return "" }})
		if err != nil {
			problems = append(problems, upstreamProblem(cfg, name, err))
			continue
		}
		u.Close()
	}
	return problems
}

// policyProblem is why the policy with this name cannot be loaded: its settings
// when the module refuses them, else the module.
func policyProblem(cfg *config.Config, name string, err error) config.Error {
	key := "module"
	if refused, ok := errors.AsType[*wasmhost.LoadError](err); ok && refused.Stage == wasmhost.Configure {
		key = "config"
	}
	return cfg.At(strings.TrimPrefix(err.Error(), fmt.Sprintf("policy %q: ", name)), "policy", name, key)
}

// upstreamProblem is why the upstream with this name cannot be prepared.
func upstreamProblem(cfg *config.Config, name string, err error) config.Error {
	return cfg.At(err.Error(), "upstream", name)
}
