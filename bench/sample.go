package main

import "fmt"

// sample is what one run measured. What a cell does not measure is zero.
type sample struct {
	cell, peer string
	round      int
	rate       float64 // messages or responses per second
	cpu        float64 // microseconds of the proxy's CPU for each
	p50, p99   float64 // microseconds
	before99   float64 // microseconds, before what goes on beside it began
	filling99  float64 // microseconds, while the buffers of stalled clients filled
	worst      float64 // microseconds: the longest latency while it went on
	calm       float64 // microseconds: the longest latency before
	reloads    float64
	stolen     float64 // percent of the processors' time that the host withheld during the whole run
	memory     float64 // bytes resident at the end
	perTunnel  float64 // bytes resident more than before, for each tunnel
	ready      float64 // milliseconds from start to the first answer
	rest       float64 // bytes resident after the first answer
	generator  float64 // cores that the generator used
}

type samples []sample

func (s sample) line(c cell) string {
	switch c.kind {
	case idle:
		return fmt.Sprintf("%9.1f KiB a tunnel", s.perTunnel/1024)
	case sse:
		return fmt.Sprintf("%9.0f/s  p50 %.0f µs  p99 %.0f µs", s.rate, s.p50, s.p99)
	}
	if c.beside() {
		return fmt.Sprintf("%9.1f MiB  p99 before %.0f µs, during %.0f µs, filling %.0f µs; longest before %.0f µs, during %.0f µs; %.0f reloads; %.1f %% withheld by the host",
			s.memory/(1<<20), s.before99, s.p99, s.filling99, s.calm, s.worst, s.reloads, s.stolen)
	}
	line := fmt.Sprintf("%9.0f/s  %6.2f µs CPU  %6.1f MiB  generator %.2f cores", s.rate, s.cpu, s.memory/(1<<20), s.generator)
	if s.p50 > 0 {
		line += fmt.Sprintf("  p50 %.0f µs  p99 %.0f µs", s.p50, s.p99)
	}
	return line
}
