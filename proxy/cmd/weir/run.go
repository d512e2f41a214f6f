package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"weir/proxy/config"
)

// runner is what this command needs of a gateway.
type runner interface {
	// Addr is where clients are listened for, AdminAddr where operators are;
	// nil: nowhere.
	Addr() net.Addr
	AdminAddr() net.Addr
	// Run serves until ctx ends, and then drains; it returns nil when all that
	// was under way could be finished.
	Run(ctx context.Context) error
	// Reload builds everything from the configuration as it now stands and
	// changes over to it, or leaves all as it is and says why.
	Reload() error
}

// starter builds a gateway that listens already, and runs nothing yet.
type starter func(ctx context.Context, cfg *config.Config, log *slog.Logger) (runner, error)

func (c *cli) runCommand() *cobra.Command {
	var level logLevel
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway",
		Long: `Runs the gateway until it is told to end. What "weir validate" refuses is
refused here too, with the same messages.

While it runs, a change of the configuration or of a policy on disk takes effect
at once, and a mistake in one changes nothing and is logged.

Who may write the configuration names the files that Weir reads. Where that is
not whoever starts Weir, --confine keeps it to one directory: other paths are
refused, and symbolic links that lead out of it, or are absolute, are as well. It
holds for reloads too.

Signals:
  SIGTERM, SIGINT  drain: /readyz fails, new work is refused, WebSocket peers are
                   told to come back and closed over drain_timeout, requests
                   under way are finished; then end. A second one ends at once,
                   and so does one while Weir starts.
  SIGHUP           reload, as "weir reload" does
  SIGQUIT          no drain: print the stacks of all goroutines and end, with 2

Logs are JSON, one object per line, on stderr; why it could not start is plain
text, as "weir validate" prints it.

Exit status: 0 after a drain or when told to end while it starts, 1 when it could
not start or the drain was cut short, 2 for a command line that makes no sense.`,
		Example: `  weir run
  weir run -c /etc/weir/gateway.toml --log-level warn 2>>/var/log/weir.json
  weir run -c /srv/weir/gateway.toml --confine /srv/weir`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Before anything else: a SIGHUP that comes early must not end Weir.
			signals := make(chan os.Signal, 8)
			signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
			defer signal.Stop(signals)
			// Who reads the log may go away or stop reading; the tunnels do not.
			signal.Ignore(syscall.SIGPIPE)
			stdout, stderr := newAsync(c.out), newAsync(c.err)
			defer stdout.Close()
			defer stderr.Close()
			own := *c
			own.out, own.err = stdout, stderr
			log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level.Level}))
			return own.run(cmd.Context(), log, signals)
		},
	}
	cmd.Flags().TextVar(&level, "log-level", logLevel{slog.LevelInfo}, "least `level` that is logged: debug, info, warn or error")
	return cmd
}

// logLevel is a slog.Level that says what it may be.
type logLevel struct{ slog.Level }

// MarshalText writes the default as help names the levels.
func (l logLevel) MarshalText() ([]byte, error) {
	return []byte(strings.ToLower(l.String())), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *logLevel) UnmarshalText(text []byte) error {
	if l.Level.UnmarshalText(text) != nil {
		return errors.New("it must be debug, info, warn or error")
	}
	return nil
}

// sameSignal is how long after a signal to end another is taken for the same
// one: timeout(1), and a make whose group is signalled, send each twice.
const sameSignal = 100 * time.Millisecond

// run loads the configuration, starts a gateway and serves until a signal or
// the end of ctx, and the drain behind it.
func (c *cli) run(ctx context.Context, log *slog.Logger, signals <-chan os.Signal) error {
	cfg, problems := c.files.Inspect(c.config)
	ctx, drain := context.WithCancel(ctx)
	defer drain()
	var g runner // nil: not started yet
	type start struct {
		g   runner
		err error
	}
	started, ended := make(chan start, 1), make(chan error, 1)
	go func() { // received below, unless the process ends
		if len(problems) > 0 {
			started <- start{err: tried(ctx, cfg, problems)} // there may be more
			return
		}
		g, err := c.start(ctx, cfg, log)
		started <- start{g, err}
	}()

	// Reloads are asked for one at a time; SIGHUPs meanwhile are one more.
	var reloads sync.WaitGroup
	hups := make(chan struct{}, 1)
	var told time.Time // when it was told to end
	for {
		select {
		case s := <-started:
			if s.err != nil {
				return c.refused(s.err)
			}
			g = s.g
			fmt.Fprint(c.out, whatToTry(cfg, g.Addr(), g.AdminAddr()))
			go func() { ended <- g.Run(ctx) }() // received below, unless the process ends
			reloads.Go(func() {
				for range hups {
					_ = g.Reload() // it logs and counts what comes of it
				}
			})
		case err := <-ended:
			close(hups)
			reloads.Wait()
			if err != nil {
				log.Error("ended", "error", err.Error())
				return failed
			}
			return nil
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP:
				select {
				case hups <- struct{}{}:
				default:
				}
			case told.IsZero():
				log.Info("told to end", "signal", s.String())
				told = time.Now()
				if g == nil { // nothing is under way
					return nil
				}
				drain()
			case time.Since(told) >= sameSignal: // the process ends: nothing is waited for
				close(hups)
				log.Error("ended by a second signal before the drain was over", "signal", s.String())
				return failed
			}
		}
	}
}

// refused prints the problems of a configuration as validate does.
func (c *cli) refused(err error) error {
	if problems, ok := errors.AsType[config.Errors](err); ok {
		fmt.Fprintln(c.err, problems)
		return failed
	}
	return failure{err}
}
