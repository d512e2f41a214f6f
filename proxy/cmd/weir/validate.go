package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"weir/proxy/config"
	"weir/proxy/gateway"
)

func (c *cli) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check the configuration and its policies without running anything",
		Long: `Reads the configuration as "weir run" would, loads every policy it names,
configures it and calls each of its hooks with samples, and reads the roots that
https: upstreams are verified with. Nothing is listened on and no backend is
dialled. "weir run" refuses what this refuses, with the same --confine.

Every problem is printed on stderr, one per line:

  FILE:LINE: KEY: what is wrong, and what would be right

Exit status: 0 when there is none, 1 when there are some, 2 for a command line
that makes no sense.`,
		Example: `  weir validate
  weir validate -c /etc/weir/gateway.toml && systemctl reload weir`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, problems := c.files.Inspect(c.config)
			if problems = tried(cmd.Context(), cfg, problems); len(problems) > 0 {
				fmt.Fprintln(c.err, problems)
				return failed
			}
			return c.print(fmt.Sprintf("%s: ok: %s, %s, %s\n", c.config,
				plural(len(cfg.Routes), "route", "routes"),
				plural(len(cfg.Upstreams), "upstream", "upstreams"),
				plural(len(cfg.Policies), "policy", "policies")))
		},
	}
}

// tried adds to the problems of a configuration those of its policies.
func tried(ctx context.Context, cfg *config.Config, problems config.Errors) config.Errors {
	if cfg == nil {
		return problems
	}
	return problems.With(gateway.Check(ctx, cfg))
}

// plural counts things.
func plural(n int, one, many string) string {
	if n == 1 {
		many = one
	}
	return fmt.Sprintf("%d %s", n, many)
}
