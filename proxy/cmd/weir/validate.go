package main

import (
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
configures it and calls each of its hooks with samples. Nothing is listened on
and no backend is dialled. "weir run" refuses what this refuses.

Every problem is printed on stderr, one per line:

  FILE:LINE: KEY: what is wrong, and what would be right

Exit status: 0 when there is none, 1 when there are some, 2 for a command line
that makes no sense.`,
		Example: `  weir validate
  weir validate -c /etc/weir/gateway.toml && systemctl reload weir`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(c.config)
			if err == nil {
				err = gateway.Check(cmd.Context(), cfg)
			}
			if err != nil {
				fmt.Fprintln(c.err, err)
				return failed
			}
			fmt.Fprintf(c.out, "%s: ok: %s, %s, %s\n", c.config,
				plural(len(cfg.Routes), "route", "routes"),
				plural(len(cfg.Upstreams), "upstream", "upstreams"),
				plural(len(cfg.Policies), "policy", "policies"))
			return nil
		},
	}
}

// plural counts things.
func plural(n int, one, many string) string {
	if n == 1 {
		many = one
	}
	return fmt.Sprintf("%d %s", n, many)
}
