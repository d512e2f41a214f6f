package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"weir/hostabi"
)

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of Weir, of Go and of the policy ABI",
		Long: `Prints the version of Weir, the Go toolchain and platform it was built with
and for, and the version of the policy ABI it speaks. It runs policies that were
built for any minor version of the same major.`,
		Example: `  $ weir version
  weir v0.1.0
  go   go1.26.0 linux/amd64
  abi  1.0`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return c.print(c.versions())
		},
	}
}

// versions is what weir version prints, and weir --version.
func (c *cli) versions() string {
	return fmt.Sprintf("weir %s\ngo   %s %s/%s\nabi  %d.%d\n",
		c.version, runtime.Version(), runtime.GOOS, runtime.GOARCH, hostabi.Major, hostabi.Minor)
}
