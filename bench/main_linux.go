// Command bench runs nginx, HAProxy and Weir side by side on one load
// generator and prints how they compare.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
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
	routes        string
	only, cell    string
	quick, scale  bool
	engines       bool
	stock         bool
	install       bool
	out           string
	profile       string
	weir          weirFiles
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 0, "interleaved rounds; the results are medians (default 5, with -scale 3)")
	flag.Float64Var(&o.seconds, "seconds", 0, "length of one measurement (default 1.25, with -scale 0.75)")
	flag.IntVar(&o.tunnels, "tunnels", 50, "tunnels or connections of a throughput cell")
	flag.IntVar(&o.idle, "idle", 9000, "tunnels of the idle cell")
	flag.StringVar(&o.only, "only", "nginx,haproxy,weir", "peers to run; none is the generator without a proxy")
	flag.StringVar(&o.cell, "cell", "", "cells to run, by the beginning of their names, as in push-128,get")
	flag.BoolVar(&o.quick, "quick", false, "one short round, to see that all works")
	flag.BoolVar(&o.scale, "scale", false, "how cost grows with the number of tunnels, connections and routes, in place of the usual cells")
	flag.BoolVar(&o.engines, "engines", false, "what each of Weir's engines costs, in place of the cells")
	flag.BoolVar(&o.stock, "stock", false, "nginx and HAProxy with the buffers that they come with, which are slower")
	flag.StringVar(&o.counts, "counts", "1,10,100,1000,5000", "numbers of tunnels and connections for -scale")
	flag.StringVar(&o.routes, "routes", "1,10,100", "numbers of routes and policies for -scale")
	flag.BoolVar(&o.install, "install", true, "install a missing peer with apt-get, as root on Debian")
	flag.StringVar(&o.out, "out", "", "file for the results (default bench/RESULTS.md, or bench/SCALE.md, after a whole run)")
	flag.StringVar(&o.weir.bin, "weir", "bin/weir", "Weir's binary")
	flag.StringVar(&o.weir.module, "module", "plugins/standard.wasm", "the policy that decides on every message")
	flag.StringVar(&o.weir.engine, "engine", "interpreter", "the policy's engine")
	flag.StringVar(&o.profile, "profile", "", "directory for profiles of Weir, one a cell: CPU, or heap where it is idle or something goes on beside")
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
	rounds, seconds := 5, 1.25
	if o.scale { // more cells, and many connections to open for each
		rounds, seconds = 3, 0.75
	}
	o.rounds, o.seconds = cmp.Or(o.rounds, rounds), cmp.Or(o.seconds, seconds)
	if o.rounds < 1 || o.seconds < 0.1 || o.tunnels < 1 || o.idle < 1 {
		return fmt.Errorf("-rounds, -tunnels and -idle are 1 at least, -seconds 0.1")
	}
	cells := allCells(o.tunnels, o.idle)
	if o.scale {
		counts, err := parseCounts("counts", o.counts)
		if err != nil {
			return err
		}
		routes, err := parseCounts("routes", o.routes)
		if err != nil {
			return err
		}
		cells = scaleCells(counts, routes, o.tunnels)
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
		p.stock = o.stock
		if err := p.ensure(ctx, o.install); err != nil {
			return err
		}
	}
	if i := slices.IndexFunc(peers, isWeir); o.engines {
		if i < 0 {
			return fmt.Errorf("-engines is about Weir: name it in -only")
		}
		figures, err := engines(ctx, peers[i], o.rounds)
		fmt.Print(figures)
		return err
	}
	runtime.GOMAXPROCS(4) // two loops, this goroutine, and one to spare: none waits for a P

	load := loadAverage()
	share := withheld()
	length := time.Duration(o.seconds * float64(time.Second))
	var turns []turn
	for round := range o.rounds {
		for _, c := range chosen {
			for i := range peers {
				p := peers[(i+round)%len(peers)] // nobody is always first
				if c.ran(p.name) {
					turns = append(turns, turn{round, c, p})
				}
			}
		}
	}
	fmt.Fprintf(os.Stderr, "%d runs of %v, about %v\n", len(turns), length, (time.Duration(len(turns)) * (length*6/5 + 500*time.Millisecond)).Round(time.Second))
	var all samples
	for i, t := range turns {
		s, err := t.run(ctx, length)
		if err != nil {
			return fmt.Errorf("%s on %s: %w", t.cell.name, t.peer.name, err)
		}
		all = append(all, s)
		fmt.Fprintf(os.Stderr, "%d/%d  %-11s %-8s %s\n", i+1, len(turns), t.cell.name, t.peer.name, s.line(t.cell))
	}
	text := preamble(o, peers, load, share()) + report(chosen, names(peers), all)
	if o.scale {
		return publish(text+growth(chosen, names(peers), all), o, o.whole(peers))
	}
	text += "\n" + atRest(peers, all)
	if o.whole(peers) {
		i := slices.IndexFunc(peers, isWeir)
		figures, err := engines(ctx, peers[i], o.rounds)
		if err != nil {
			return err
		}
		text += "\n" + figures
	}
	return publish(text, o, o.whole(peers))
}

func isWeir(p *peer) bool { return p.name == "weir" }

// whole tells whether the run is one to be kept.
func (o options) whole(peers []*peer) bool {
	return o.cell == "" && !o.stock && o.profile == "" && o.rounds >= 3 && len(peers) == 3
}

// turn is one run of the interleaved rounds.
type turn struct {
	round int
	cell  cell
	peer  *peer
}

// Minutes of measurements are not to be lost to one run of them.
const (
	startAttempts = 3 // a start that failed is counted in the results
	calmAttempts  = 3 // of which that counts from which the host withheld least
	calm          = 3 // percent that it may withhold
)

// run measures, once more when the host of the machine withheld its processors
// meanwhile: what comes out then is the host's doing.
func (t turn) run(ctx context.Context, length time.Duration) (best sample, err error) {
	for n := range calmAttempts {
		share := withheld()
		s, err := t.try(ctx, length)
		if err != nil {
			return s, err
		}
		s.round, s.stolen = t.round, share()
		if n == 0 || s.stolen < best.stolen {
			best = s
		}
		if s.stolen <= calm {
			break
		}
		fmt.Fprintf(os.Stderr, "%s on %s: the host withheld %.0f %% of the processors\n", t.cell.name, t.peer.name, s.stolen)
	}
	return best, nil
}

// try measures, and starts the peer again when it does not start.
func (t turn) try(ctx context.Context, length time.Duration) (sample, error) {
	s, err := measure(ctx, t.cell, t.peer, length)
	for attempts := 1; errors.Is(err, errStart) && ctx.Err() == nil && attempts < startAttempts; attempts++ {
		fmt.Fprintf(os.Stderr, "%s on %s, once more: %v\n", t.cell.name, t.peer.name, err)
		t.peer.failedStarts++
		s, err = measure(ctx, t.cell, t.peer, length)
	}
	return s, err
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

func parseCounts(name, s string) ([]int, error) {
	var counts []int
	for f := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("-%s: %q is not a number", name, f)
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
		if need := uint64(2*c.tunnels + 3*c.stalled + 100); need > lim.Cur {
			return fmt.Errorf("%s needs %d descriptors, the limit is %d: see ulimit -Hn", c.name, need, lim.Cur)
		}
	}
	return nil
}
