package gateway

import (
	"fmt"
	"math"

	"weir/proxy/config"
)

// ownFiles is how many descriptors Weir has for other things than clients that it
// serves: connections that wait to be refused, listeners, loops, which have two each,
// watches, files that a reload reads, operators, and some to spare.
func ownFiles(loops int) uint64 { return overrun + 48 + 2*uint64(max(loops, 8)) }

// filesNeeded is how many descriptors as many clients as are allowed can take beside
// Weir's own: two for a tunnel or a request. 0: nobody says how many they may be.
func filesNeeded(maxConnections int, own uint64) uint64 {
	if maxConnections == config.Unlimited {
		return 0
	}
	return 2*uint64(maxConnections) + own
}

// mostClients is filesNeeded the other way round: how many clients have a descriptor
// each, and one for their upstreams, where files may be open.
func mostClients(files, own uint64) int {
	return int(min(max(files, own)-own, math.MaxInt) / 2)
}

// fewFiles tells why Weir cannot run where no more than files may be open; "": it can.
func fewFiles(files, own uint64) string {
	if need := filesNeeded(1, own); files < need {
		return fmt.Sprintf("%d files may be open, Weir needs %d at least: raise LimitNOFILE (ulimit -n)", files, need)
	}
	return ""
}

// maxConnections is max_connections, or how many there are descriptors for: clients are
// not to have those that operators and reloads need.
func (g *Gateway) maxConnections(limit int) int {
	if limit == config.Unlimited {
		return g.mostClients
	}
	return min(limit, g.mostClients)
}

// warnOfFewFiles says so when the process may not open what max_connections
// allows: it is better told when that is read than by failing connections.
func (g *Gateway) warnOfFewFiles() {
	most := g.current.Load().cfg.Limits.MaxConnections
	have, ok := fileLimit()
	if need := filesNeeded(most, ownFiles(g.howManyLoops())); ok && have < need {
		g.log.Warn("fewer files may be open than max_connections needs, which is lowered; raise LimitNOFILE (ulimit -n) or lower max_connections",
			"file_limit", have, "needed", need, "max_connections", most, "lowered_to", g.mostClients)
	}
}
