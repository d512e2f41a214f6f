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
}

// metrics of a cell. The targets are those that the project has set itself.
func metrics(c cell) []metric {
	rate := metric{name: "messages/s", of: func(s sample) float64 { return s.rate }, format: large, more: true}
	cpu := metric{name: "CPU µs per message", of: func(s sample) float64 { return s.cpu }, format: three}
	memory := metric{name: "memory, MB", of: func(s sample) float64 { return s.memory / 1e6 }, format: three}
	p50 := metric{name: "p50, µs", of: func(s sample) float64 { return s.p50 }, format: three, peer: "nginx"}
	p99 := metric{name: "p99, µs", of: func(s sample) float64 { return s.p99 }, format: three, peer: "nginx"}
	switch c.kind {
	case idle:
		return []metric{{
			name: "kB per tunnel", of: func(s sample) float64 { return s.perTunnel / 1e3 }, format: three, limit: 9,
		}}
	case get:
		rate.name, rate.peer, rate.target = "responses/s", "nginx", 0.9
		cpu.name, cpu.peer = "CPU µs per response", "nginx"
		return []metric{rate, cpu, p50, p99}
	case sse:
		p50.target = 1.2
		return []metric{p50, p99}
	}
	if c.flight == 1 {
		p50.target, p99.target = 1.2, 1.2
		return []metric{p50, p99, rate, cpu}
	}
	rate.target, cpu.target = 1.0, 1.15
	return []metric{rate, cpu, memory}
}

// values of a metric in a cell, one for each round.
func (all samples) values(c cell, peer string, m metric) []float64 {
	var v []float64
	for _, s := range all {
		if s.cell == c.name && s.peer == peer {
			v = append(v, m.of(s))
		}
	}
	return v
}

// median of values that it may sort; NaN when there are none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// spread is how far the outermost rounds are from the median, in percent of
// it, or "" for less than three rounds.
func spread(v []float64) string {
	m := median(v)
	if len(v) < 3 || m == 0 {
		return ""
	}
	return fmt.Sprintf(" ±%.0f%%", 100*max(v[len(v)-1]-m, m-v[0])/math.Abs(m))
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
