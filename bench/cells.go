package main

import (
	"fmt"
	"slices"
	"strings"
)

// kind is what the generator does in a cell.
type kind string

const (
	echo  kind = "echo"  // WebSocket: so many in flight per tunnel, echoed
	push  kind = "push"  // WebSocket: the upstream pushes without end
	idle  kind = "idle"  // WebSocket: one message each, then nothing
	flood kind = "flood" // WebSocket: the upstream pushes to a client that has stopped reading
	get   kind = "get"   // HTTP GET over kept-alive connections
	sse   kind = "sse"   // HTTP: the first event of a stream, one after another
)

// cell is one thing to measure.
type cell struct {
	name    string
	title   string
	kind    kind
	size    int // bytes of a message or body
	tunnels int // connections at once
	flight  int // messages in flight per tunnel

	tls     bool // on the client leg
	stalled int  // clients beside the tunnels that stop reading what is pushed to them
	reloads bool // the proxy is reloaded again and again beside the tunnels, Weir with another build of its policy
	routes  int  // routes, each with a policy of its own, over which the tunnels are spread; 0: the one
}

// ran tells whether a peer can run the cell.
func (c cell) ran(peer string) bool {
	return peer != "none" || !c.reloads && !c.tls
}

// beside tells whether the cell is about what goes on beside its tunnels.
func (c cell) beside() bool { return c.stalled > 0 || c.reloads }

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

// kept is how many upstream connections nginx and HAProxy keep: with fewer than
// are in use at once they would spend their time on new ones.
func (c cell) kept() int {
	if c.kind == get {
		return max(64, c.tunnels)
	}
	return 64
}

var sizes = []struct {
	bytes int
	name  string
}{{128, "128"}, {1 << 10, "1k"}, {16 << 10, "16k"}}

// stalledClients is how many stop reading in the stalled cell.
const stalledClients = 200

// allCells is the table of the benchmark.
func allCells(tunnels, idlers int) []cell {
	var cells []cell
	add := func(c cell, title string, v ...any) {
		c.title = fmt.Sprintf(title, v...)
		cells = append(cells, c)
	}
	for _, s := range sizes {
		add(cell{name: "one-" + s.name, kind: echo, size: s.bytes, tunnels: tunnels, flight: 1},
			"WebSocket, one message of %s in flight, %d tunnels", human(s.bytes), tunnels)
	}
	add(cell{name: "solo-128", kind: echo, size: 128, tunnels: 1, flight: 1},
		"WebSocket, one message of 128 B in flight, one tunnel")
	for _, s := range sizes {
		add(cell{name: "echo-" + s.name, kind: echo, size: s.bytes, tunnels: tunnels, flight: 64},
			"WebSocket, 64 messages of %s in flight, %d tunnels", human(s.bytes), tunnels)
	}
	for _, s := range sizes {
		add(cell{name: "push-" + s.name, kind: push, size: s.bytes, tunnels: tunnels},
			"WebSocket, upstream pushes messages of %s, %d tunnels", human(s.bytes), tunnels)
	}
	add(cell{name: "idle", kind: idle, size: 128, tunnels: idlers, flight: 1},
		"WebSocket, %d idle tunnels", idlers)
	for _, s := range []int{0, 2} {
		add(cell{name: "get-" + sizes[s].name, kind: get, size: sizes[s].bytes, tunnels: tunnels, flight: 1},
			"HTTP GET, %s, %d connections", human(sizes[s].bytes), tunnels)
	}
	add(cell{name: "sse", kind: sse, size: 128, tunnels: 1, flight: 1},
		"HTTP, first server-sent event, a connection each")
	for _, name := range []string{"echo-1k", "push-1k", "get-128", "get-16k"} {
		c := cells[slices.IndexFunc(cells, func(c cell) bool { return c.name == name })]
		c.name, c.tls = "tls-"+name, true
		add(c, "%s; TLS 1.3 on the client leg", c.title)
	}
	add(cell{name: "stalled", kind: echo, size: 128, tunnels: tunnels, flight: 1, stalled: stalledClients},
		"as one-128, while %d more clients stop reading what is pushed to them without end", stalledClients)
	add(cell{name: "reload", kind: echo, size: 128, tunnels: tunnels, flight: 1, reloads: true},
		"as one-128, while the configuration is taken up again and again, Weir's with another build of its policy")
	return cells
}

// scaleCells shows how cost grows with the number of tunnels or connections, and
// of routes and policies.
func scaleCells(counts, routes []int, tunnels int) []cell {
	var cells []cell
	add := func(name string, c cell, title string) {
		c.name, c.size, c.title = name, 128, title
		cells = append(cells, c)
	}
	for _, n := range counts {
		at, of := fmt.Sprintf("@%d", n), fmt.Sprintf(", %d tunnels", n)
		add("one-128"+at, cell{kind: echo, tunnels: n, flight: 1}, "WebSocket, one message of 128 B in flight"+of)
		add("echo-128"+at, cell{kind: echo, tunnels: n, flight: 64}, "WebSocket, 64 messages of 128 B in flight"+of)
		add("push-128"+at, cell{kind: push, tunnels: n}, "WebSocket, upstream pushes messages of 128 B"+of)
		if n >= 100 { // fewer vanish in what the process needs anyway
			add("idle"+at, cell{kind: idle, tunnels: n, flight: 1}, "WebSocket, idle"+of)
		}
		add("get-128"+at, cell{kind: get, tunnels: n, flight: 1}, fmt.Sprintf("HTTP GET, 128 B, %d connections", n))
	}
	for _, n := range routes {
		at, of := fmt.Sprintf("@%d-routes", n), fmt.Sprintf(", %d tunnels over %d routes with a policy each", tunnels, n)
		add("one-128"+at, cell{kind: echo, tunnels: tunnels, flight: 1, routes: n}, "WebSocket, one message of 128 B in flight"+of)
		add("push-128"+at, cell{kind: push, tunnels: tunnels, routes: n}, "WebSocket, upstream pushes messages of 128 B"+of)
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
