package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"weir/proxy/config"
)

// Exit statuses.
const (
	exitOK      = 0
	exitFailure = 1 // the command did not do what it was asked for
	exitUsage   = 2 // the command line makes no sense
)

// cli is what the commands share.
type cli struct {
	out, err io.Writer // what was asked for; problems and logs
	version  string
	start    starter
	config   string       // of --config
	files    config.Files // of --confine
}

// failure is an error of a command that was called properly. One without a
// message has been printed already.
type failure struct{ error }

// failed is the failure of which everything has been said.
var failed = failure{errors.New("")}

// execute runs one command line and returns its exit status.
func execute(args []string, c cli) int {
	root := c.root()
	root.SetArgs(args)
	var help bytes.Buffer // package cobra does not say when it could not print it
	root.SetOut(&help)
	called, err := root.ExecuteC()
	if err == nil && help.Len() > 0 {
		err = c.print(help.String())
	}
	if err == nil {
		return exitOK
	}
	if f, ok := errors.AsType[failure](err); ok {
		if f != failed {
			fmt.Fprintf(c.err, "%s: %v\n", called.CommandPath(), f)
		}
		return exitFailure
	}
	fmt.Fprintf(c.err, "weir: %v\nSee %s --help.\n", err, called.CommandPath())
	return exitUsage
}

// print writes what was asked for. Who cannot be told has not got it.
func (c *cli) print(s string) error {
	if _, err := io.WriteString(c.out, s); err != nil {
		return failure{err}
	}
	return nil
}

// root is the command line of weir.
func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "weir",
		Short: "An edge proxy for WebSocket and streaming-HTTP backends",
		Long: `Weir proxies WebSocket and HTTP to your backends. It enforces limits and
backpressure itself, and asks WebAssembly policies for what differs from
backend to backend. Everything is said in one file, gateway.toml; the file and
the policies are swapped while it runs.`,
		Example: `  weir validate                  is gateway.toml right, and do its policies work?
  weir run                       proxy, until SIGTERM or Ctrl-C
  weir reload                    have the running one take up what changed`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetErr(c.err)
	// Cobra's own --version needs package text/template, which takes 3 MB.
	version := root.Flags().Bool("version", false, "print the versions, as weir version does")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if *version {
			return c.print(c.versions())
		}
		return cmd.Help()
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().StringVarP(&c.config, "config", "c", "gateway.toml", "configuration `file`")
	confine := root.PersistentFlags().String("confine", "", "read the configuration and every file it names from `directory` only")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		if c.config == "" {
			return errors.New("--config: no file is named")
		}
		if cmd.Flags().Changed("confine") {
			if c.files, err = config.Within(*confine); err != nil {
				err = fmt.Errorf("--confine: %w", err)
			}
		}
		return err
	}
	root.SetHelpCommand(helpCommand(root))
	root.AddCommand(c.runCommand(), c.validateCommand(), c.reloadCommand(), c.versionCommand())
	return root
}

// helpCommand is cobra's, but that it refuses what is no command.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Help about any command",
		RunE: func(_ *cobra.Command, args []string) error {
			about, rest, err := root.Find(args)
			if err == nil && len(rest) > 0 {
				err = fmt.Errorf("unknown command %q for %q", rest[0], about.CommandPath())
			}
			if err != nil {
				return err
			}
			return about.Help()
		},
	}
}
