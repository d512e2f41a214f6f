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
)

// Check loads, configures and probes every policy of cfg whose module could be
// read, an empty one too, as New and Reload do before they change anything. It
// returns what is wrong with all that fail.
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
