package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// preamble says what the figures are, where they come from and how to read them.
func preamble(o options, peers []*peer, load string, stolen float64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", title(o))
	fmt.Fprintf(&b, "Medians of %d interleaved rounds of %v s; ± is how far the outermost round was. "+
		"A ratio is the median of those of each round. "+
		"How to read it: [README](README.md).\n\n", o.rounds, o.seconds)
	fmt.Fprintf(&b, "- Machine: %s, %d cores, memory %s\n", cpuModel(), runtime.NumCPU(), memTotal())
	fmt.Fprintf(&b, "- System: %s, Linux %s; load average before the start %s, withheld by the host during the run %.1f %% of its processors\n",
		osName(), firstLine("/proc/sys/kernel/osrelease"), load, stolen)
	fmt.Fprintf(&b, "- Generator: %s, %s\n", runtime.Version(), time.Now().UTC().Format(time.DateOnly))
	for _, p := range peers {
		fmt.Fprintf(&b, "- %s: %s\n", p.name, p.versionLine())
		if p.failedStarts > 0 {
			fmt.Fprintf(&b, "- failed starts of %s, which was started again: %d\n", p.name, p.failedStarts)
		}
	}
	if slices.ContainsFunc(peers, isWeir) {
		fmt.Fprintf(&b, "- Weir's policy: the standard one, %s engine\n", o.weir.engine)
	}
	return b.String() + "\n"
}

func title(o options) string {
	if o.scale {
		return "How cost grows with the number of tunnels, connections and routes"
	}
	return "Benchmark results"
}

// names of the peers in the order of the table: Weir last.
func names(peers []*peer) []string {
	var all []string
	for _, p := range peers {
		if p.name != "weir" {
			all = append(all, p.name)
		}
	}
	if len(all) < len(peers) {
		all = append(all, "weir")
	}
	return all
}

func loadAverage() string {
	f := strings.Fields(firstLine("/proc/loadavg"))
	if len(f) == 0 {
		return "unknown"
	}
	return f[0]
}

func cpuModel() string { return valueOf("/proc/cpuinfo", "model name", ":") }

func memTotal() string {
	var kb int
	if _, err := fmt.Sscan(valueOf("/proc/meminfo", "MemTotal", ":"), &kb); err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.1f GiB", float64(kb)/(1<<20))
}

func osName() string { return strings.Trim(valueOf("/etc/os-release", "PRETTY_NAME", "="), `"`) }

// valueOf is the first value that a file gives to a key.
func valueOf(path, key, sep string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if k, v, ok := strings.Cut(line, sep); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func firstLine(path string) string {
	b, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

// versionLine is what the peer says it is.
func (p *peer) versionLine() string {
	if p.bin == "" {
		return "the generator without a proxy"
	}
	out, err := exec.Command(p.bin, p.version...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err != nil || line == "" {
		return "unknown version"
	}
	return line
}

// atRest is what each peer needs before anything happens.
func atRest(peers []*peer, all samples) string {
	var t table
	t.add("peer", atRestMetrics[0].name, atRestMetrics[1].name, "program, MB")
	for _, p := range peers {
		var of samples
		for _, s := range all {
			if s.peer == p.name && p.bin != "" {
				of = append(of, s)
			}
		}
		if len(of) > 0 {
			t.add(p.name, of.median(atRestMetrics[0]), of.median(atRestMetrics[1]), p.binary())
		}
	}
	return t.String()
}
