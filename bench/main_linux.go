// Command bench runs nginx, HAProxy and Weir side by side on one load
// generator and prints how they compare.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func init() {
	// The peers are told to end when the thread that started them does, so
	// that must be the one which lives as long as the process.
	runtime.LockOSThread()
}

// options are the command line.
type options struct {
	rounds        int
	seconds       float64
	tunnels, idle int
	counts        string
	only, cell    string
	quick, scale  bool
	install       bool
	out           string
	profile       string
	weir          weirFiles
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "interleaved rounds; the results are medians")
	flag.Float64Var(&o.seconds, "seconds", 2, "length of one measurement")
	flag.IntVar(&o.tunnels, "tunnels", 50, "tunnels or connections of a throughput cell")
	flag.IntVar(&o.idle, "idle", 1000, "tunnels of the idle cell")
	flag.StringVar(&o.only, "only", "nginx,haproxy,weir", "peers to run; none is the generator without a proxy")
	flag.StringVar(&o.cell, "cell", "", "cells to run, by the beginning of their names, as in push-128,get")
	flag.BoolVar(&o.quick, "quick", false, "one short round, to see that all works")
	flag.BoolVar(&o.scale, "scale", false, "how cost grows with the number of tunnels, in place of the usual cells")
	flag.StringVar(&o.counts, "counts", "1,10,100,1000,5000", "numbers of tunnels for -scale")
	flag.BoolVar(&o.install, "install", true, "install a missing peer with apt-get, as root on Debian")
	flag.StringVar(&o.out, "out", "", "file for the results (default bench/RESULTS.md, or bench/SCALE.md, after a whole run)")
	flag.StringVar(&o.weir.bin, "weir", "bin/weir", "Weir's binary")
	flag.StringVar(&o.weir.module, "module", "plugins/standard.wasm", "the policy that decides on every message")
	flag.StringVar(&o.weir.engine, "engine", "interpreter", "the policy's engine")
	flag.StringVar(&o.profile, "profile", "", "directory for profiles of Weir, one a cell: CPU, or heap where it is idle")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "bench: %q is not a flag; see -help\n", flag.Args())
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := bench(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, o options) error {
	if o.quick {
		o.rounds, o.seconds, o.idle = 1, 0.4, min(o.idle, 200)
	}
	if o.rounds < 1 || o.seconds < 0.1 || o.tunnels < 1 || o.idle < 1 {
		return fmt.Errorf("-rounds, -tunnels and -idle are 1 at least, -seconds 0.1")
	}
	cells := allCells(o.tunnels, o.idle)
	if o.scale {
		counts, err := parseCounts(o.counts)
		if err != nil {
			return err
		}
		cells = scaleCells(counts)
	}
	chosen, err := choose(cells, o.cell)
	if err != nil {
		return err
	}
	if o.profile != "" {
		if o.weir.bin, err = buildProfiled(ctx, o.profile); err != nil {
			return err
		}
		o.weir.profiles = o.profile
	}
	peers, err := choosePeers(o.only, o.weir)
	if err != nil {
		return err
	}
	if err := raiseLimit(chosen); err != nil {
		return err
	}
	for _, p := range peers {
		if err := p.ensure(ctx, o.install); err != nil {
			return err
		}
	}
	runtime.GOMAXPROCS(4) // two loops, this goroutine, and one to spare: none waits for a P

	load := loadAverage()
	runs := len(chosen) * len(peers) * o.rounds
	fmt.Fprintf(os.Stderr, "%d runs of %v s, about %v\n", runs, o.seconds,
		(time.Duration(runs) * time.Duration((o.seconds*1.2+0.9)*float64(time.Second))).Round(time.Second))
	var all samples
	for round := range o.rounds {
		for _, c := range chosen {
			for i := range peers {
				p := peers[(i+round)%len(peers)] // nobody is always first
				s, err := measure(ctx, c, p, time.Duration(o.seconds*float64(time.Second)))
				if err != nil {
					return fmt.Errorf("%s on %s: %w", c.name, p.name, err)
				}
				s.round = round
				all = append(all, s)
				fmt.Fprintf(os.Stderr, "%d/%d  %-10s %-8s %s\n", len(all), runs, c.name, p.name, s.line(c))
			}
		}
	}
	whole := o.cell == "" && o.profile == "" && o.rounds >= 3 && len(peers) == 3
	return publish(preamble(o, peers, load)+report(chosen, names(peers), all), o, whole)
}

// publish prints the results and, of a whole run, keeps them.
func publish(text string, o options, whole bool) error {
	fmt.Print(text)
	out := o.out
	if out == "" && whole {
		out = "bench/RESULTS.md"
		if o.scale {
			out = "bench/SCALE.md"
		}
	}
	if out == "" {
		return nil
	}
	if err := os.WriteFile(out, []byte(text), 0o644); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "kept in", out)
	return nil
}

func parseCounts(s string) ([]int, error) {
	var counts []int
	for f := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("-counts: %q is not a number of tunnels", f)
		}
		counts = append(counts, n)
	}
	return counts, nil
}

// raiseLimit allows as many descriptors as there may be, here and, because it
// is set and not left to the runtime, in the peers. A tunnel needs two in the
// generator and two in the proxy.
func raiseLimit(cells []cell) error {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("descriptor limit: %w", err)
	}
	lim.Cur = lim.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("descriptor limit: %w", err)
	}
	for _, c := range cells {
		if need := uint64(2*c.tunnels + 100); need > lim.Cur {
			return fmt.Errorf("%s needs %d descriptors, the limit is %d: see ulimit -Hn", c.name, need, lim.Cur)
		}
	}
	return nil
}
