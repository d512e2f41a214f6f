package main

import (
	"fmt"
	"math"
	"slices"
)

// metric is one figure of a cell, and what Weir is held to in it.
type metric struct {
	name   string
	of     func(sample) float64
	format func(float64) string
	more   bool    // more is better
	peer   string  // whom Weir is compared with; "": the better of nginx and HAProxy
	target float64 // Weir's ratio to that peer, at least or at most; 0: none
	limit  float64 // Weir's own value at most; 0: none
	alone  bool    // it says nothing beside another peer's
}

// metrics of a cell. The targets are those that the project has set itself.
func metrics(c cell) []metric {
	rate := metric{name: "messages/s", of: func(s sample) float64 { return s.rate }, format: large, more: true}
	cpu := metric{name: "CPU µs per message", of: func(s sample) float64 { return s.cpu }, format: three}
	memory := metric{name: "memory, MB", of: func(s sample) float64 { return s.memory / 1e6 }, format: three}
	p50 := metric{name: "p50, µs", of: func(s sample) float64 { return s.p50 }, format: three, peer: "nginx"}
	p99 := metric{name: "p99, µs", of: func(s sample) float64 { return s.p99 }, format: three, peer: "nginx"}
	switch {
	case c.kind == idle:
		return []metric{{
			name: "kB per tunnel", of: func(s sample) float64 { return s.perTunnel / 1e3 }, format: three, limit: 9,
		}}
	case c.stalled > 0:
		return besideStalled(c, memory, p99)
	case c.reloads:
		return besideReloads(p99)
	case c.kind == get:
		rate.name, rate.peer, rate.target = "responses/s", "nginx", 0.9
		cpu.name, cpu.peer = "CPU µs per response", "nginx"
		if c.tls {
			rate.target = 0.8
		}
		return []metric{rate, cpu, p50, p99}
	case c.kind == sse:
		p50.target = 1.2
		return []metric{p50, p99}
	case c.tls:
		rate.peer, rate.target, cpu.peer = "nginx", 0.8, "nginx"
		return []metric{rate, cpu, memory}
	case c.flight == 1:
		p50.target, p99.target = 1.2, 1.2
		return []metric{p50, p99, rate, cpu}
	}
	rate.target, cpu.target = 1.0, 1.15
	return []metric{rate, cpu, memory}
}

// besideStalled holds memory to what the limits allow, and the others' p99 to
// what it was before.
func besideStalled(c cell, memory, p99 metric) []metric {
	memory.limit = float64(c.stalled<<20+64e6) / 1e6 // max_buffered_bytes is 1 MiB as it comes
	before, full, fill := p99, p99, p99
	before.name, before.of = "p99 before, µs", func(s sample) float64 { return s.before99 }
	fill.name, fill.of = "p99 while buffers fill, µs", func(s sample) float64 { return s.filling99 }
	full.name = "p99 beside them, µs"
	return []metric{memory, before, fill, full, {
		name: "p99 beside them ÷ before", of: func(s sample) float64 { return s.p99 / s.before99 }, format: three, limit: 2, alone: true,
	}}
}

// besideReloads holds the longest delay while configurations are taken up to the
// p99 without. What the machine delays by itself is shown beside it, and how long
// its host withheld processors.
func besideReloads(p99 metric) []metric {
	before, calm, worst, stolen := p99, p99, p99, p99
	before.name, before.of = "p99 before, µs", func(s sample) float64 { return s.before99 }
	calm.name, calm.of = "longest before, µs", func(s sample) float64 { return s.calm }
	p99.name = "p99 beside reloads, µs"
	worst.name, worst.of = "longest beside reloads, µs", func(s sample) float64 { return s.worst }
	stolen.name, stolen.of, stolen.alone = "withheld by the host, %", func(s sample) float64 { return s.stolen }, true
	return []metric{before, calm, p99, worst, stolen, {
		name: "longest beside reloads ÷ p99 before", of: func(s sample) float64 { return s.worst / s.before99 }, format: three, limit: 2,
	}, {
		name: "longest before ÷ p99 before", of: func(s sample) float64 { return s.calm / s.before99 }, format: three,
	}}
}

// values of a metric in a cell, one for each round, in their order.
func (all samples) values(c cell, peer string, m metric) []float64 {
	var v []float64
	for _, s := range all {
		if s.cell == c.name && s.peer == peer {
			v = append(v, m.of(s))
		}
	}
	return v
}

// median of values; NaN when there are none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// spread is how far the outermost rounds are from the median, in percent of
// it, or "" for less than three rounds.
func spread(v []float64) string {
	m := median(v)
	if len(v) < 3 || m == 0 {
		return ""
	}
	return fmt.Sprintf(" ±%.0f%%", 100*max(slices.Max(v)-m, m-slices.Min(v))/math.Abs(m))
}

// paired are the ratios of values that were taken one beside the other.
func paired(v, to []float64) []float64 {
	ratios := make([]float64, min(len(v), len(to)))
	for i := range ratios {
		ratios[i] = v[i] / to[i]
	}
	return ratios
}

// shown is the median and how far the values are from it.
func shown(format func(float64) string, v []float64) string {
	if len(v) == 0 {
		return "–"
	}
	return format(median(v)) + spread(v)
}

// three is a number with three significant digits.
func three(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func large(v float64) string {
	switch {
	case v >= 1e6:
		return three(v/1e6) + " M"
	case v >= 1e4:
		return three(v/1e3) + " k"
	}
	return three(v)
}
