package main

import (
	"fmt"
	"slices"
	"strings"
)

// kind is what the generator does in a cell.
type kind string

const (
	echo kind = "echo" // WebSocket: so many in flight per tunnel, echoed
	push kind = "push" // WebSocket: the upstream pushes without end
	idle kind = "idle" // WebSocket: one message each, then nothing
	get  kind = "get"  // HTTP GET over kept-alive connections
	sse  kind = "sse"  // HTTP: the first event of a stream, one after another
)

// cell is one thing to measure.
type cell struct {
	name    string
	title   string
	kind    kind
	size    int // bytes of a message or body
	tunnels int // connections at once
	flight  int // messages in flight per tunnel
}

// pushWindow is how far the upstream may be ahead of the client, per tunnel.
// It is more than the kernel's and any proxy's buffers need, and less than
// max_buffered_bytes in peers/weir.toml, so that nothing has to be shed.
// Together they are bounded too, or thousands of tunnels would be measured
// while they still fill.
const (
	pushWindow    = 1 << 20  // bytes
	pushWindowAll = 64 << 20 // bytes of all tunnels together
)

// window is how many messages of so many bytes may be ahead in a tunnel.
func (c cell) window(frame int64) int64 {
	return max(1, min(pushWindow, pushWindowAll/int64(c.tunnels))/frame)
}

var sizes = []struct {
	bytes int
	name  string
}{{128, "128"}, {1 << 10, "1k"}, {16 << 10, "16k"}}

// allCells is the table of the benchmark.
func allCells(tunnels, idlers int) []cell {
	var cells []cell
	add := func(c cell) { cells = append(cells, c) }
	for _, s := range sizes {
		add(cell{"one-" + s.name, fmt.Sprintf("WebSocket, one message of %s in flight, %d tunnels", human(s.bytes), tunnels), echo, s.bytes, tunnels, 1})
	}
	add(cell{"solo-128", "WebSocket, one message of 128 B in flight, one tunnel", echo, 128, 1, 1})
	for _, s := range sizes {
		add(cell{"echo-" + s.name, fmt.Sprintf("WebSocket, 64 messages of %s in flight, %d tunnels", human(s.bytes), tunnels), echo, s.bytes, tunnels, 64})
	}
	for _, s := range sizes {
		add(cell{"push-" + s.name, fmt.Sprintf("WebSocket, upstream pushes messages of %s, %d tunnels", human(s.bytes), tunnels), push, s.bytes, tunnels, 0})
	}
	add(cell{"idle", fmt.Sprintf("WebSocket, %d idle tunnels", idlers), idle, 128, idlers, 1})
	add(cell{"get-128", fmt.Sprintf("HTTP GET, 128 B, %d connections", tunnels), get, 128, tunnels, 1})
	add(cell{"get-16k", fmt.Sprintf("HTTP GET, 16 KiB, %d connections", tunnels), get, 16 << 10, tunnels, 1})
	add(cell{"sse", "HTTP, first server-sent event, a connection each", sse, 128, 1, 1})
	return cells
}

// scaleCells shows how cost grows with the number of tunnels.
func scaleCells(counts []int) []cell {
	var cells []cell
	for _, n := range counts {
		cells = append(cells,
			cell{fmt.Sprintf("one-128@%d", n), fmt.Sprintf("WebSocket, one message of 128 B in flight, %d tunnels", n), echo, 128, n, 1},
			cell{fmt.Sprintf("push-128@%d", n), fmt.Sprintf("WebSocket, upstream pushes messages of 128 B, %d tunnels", n), push, 128, n, 0})
		if n >= 100 { // fewer vanish in what the process needs anyway
			cells = append(cells, cell{fmt.Sprintf("idle@%d", n), fmt.Sprintf("WebSocket, %d idle tunnels", n), idle, 128, n, 1})
		}
	}
	return cells
}

// choose keeps the cells whose name begins with one of the names.
func choose(cells []cell, names string) ([]cell, error) {
	if names == "" {
		return cells, nil
	}
	var chosen []cell
	for name := range strings.SplitSeq(names, ",") {
		n := len(chosen)
		for _, c := range cells {
			if strings.HasPrefix(c.name, name) && !slices.Contains(chosen, c) {
				chosen = append(chosen, c)
			}
		}
		if len(chosen) == n {
			var known []string
			for _, c := range cells {
				known = append(known, c.name)
			}
			return nil, fmt.Errorf("no cell begins with %q: there are %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}

func human(bytes int) string {
	switch {
	case bytes >= 1<<20:
		return fmt.Sprintf("%d MiB", bytes>>20)
	case bytes >= 1<<10:
		return fmt.Sprintf("%d KiB", bytes>>10)
	}
	return fmt.Sprintf("%d B", bytes)
}
