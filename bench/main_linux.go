// Command bench runs nginx, HAProxy and Weir side by side on one load
// generator and prints how they compare.
package main

import (
	"cmp"
	"context"
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

// bench runs what o asks for, and publishes what comes of it.
func bench(ctx context.Context, o options) error {
	if err := o.complete(); err != nil {
		return err
	}
	cells, err := o.cells()
	if err != nil {
		return err
	}
	if err := raiseLimit(cells); err != nil {
		return err
	}
	peers, err := o.peers(ctx)
	if err != nil {
		return err
	}
	if o.engines {
		figures, err := o.engineFigures(ctx, peers)
		fmt.Print(figures)
		return err
	}
	runtime.GOMAXPROCS(4) // two loops, this goroutine, and one to spare: none waits for a P

	load, share := loadAverage(), withheld()
	length := time.Duration(o.seconds * float64(time.Second))
	all, err := runAll(ctx, interleave(o.rounds, cells, peers), length)
	if err != nil {
		return err
	}
	text := preamble(o, peers, load, share()) + report(cells, names(peers), all)
	if o.scale {
		return publish(text+growth(cells, names(peers), all), o, o.whole(peers))
	}
	text += "\n" + atRest(peers, all)
	if o.whole(peers) {
		figures, err := o.engineFigures(ctx, peers)
		if err != nil {
			return err
		}
		text += "\n" + figures
	}
	return publish(text, o, o.whole(peers))
}

// complete fills in what the command line left out.
func (o *options) complete() error {
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
	return nil
}

// cells are those to run.
func (o *options) cells() ([]cell, error) {
	if !o.scale {
		return choose(allCells(o.tunnels, o.idle), o.cell)
	}
	counts, err := parseCounts("counts", o.counts)
	if err != nil {
		return nil, err
	}
	routes, err := parseCounts("routes", o.routes)
	if err != nil {
		return nil, err
	}
	return choose(scaleCells(counts, routes, o.tunnels), o.cell)
}

// peers are those to run them on, each of which is there.
func (o *options) peers(ctx context.Context) ([]*peer, error) {
	files := o.weir
	if o.profile != "" {
		bin, err := buildProfiled(ctx, o.profile)
		if err != nil {
			return nil, err
		}
		files.bin, files.profiles = bin, o.profile
	}
	peers, err := choosePeers(o.only, files)
	if err != nil {
		return nil, err
	}
	for _, p := range peers {
		p.stock = o.stock
		if err := p.ensure(ctx, o.install); err != nil {
			return nil, err
		}
	}
	return peers, nil
}

// engineFigures are what Weir's engines cost.
func (o *options) engineFigures(ctx context.Context, peers []*peer) (string, error) {
	i := slices.IndexFunc(peers, isWeir)
	if i < 0 {
		return "", fmt.Errorf("-engines is about Weir: name it in -only")
	}
	return engines(ctx, peers[i], o.rounds)
}

func isWeir(p *peer) bool { return p.name == "weir" }

// whole tells whether the run is one to be kept.
func (o options) whole(peers []*peer) bool {
	return o.cell == "" && !o.stock && o.profile == "" && o.rounds >= 3 && len(peers) == 3
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

// parseCounts reads the list that a flag of this name has.
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
