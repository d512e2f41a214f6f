package gateway

import (
	"fmt"
	"math"

	"weir/proxy/config"
)

// ownFiles is how many descriptors Weir has for other things than clients and
// their upstreams, and some to spare: listeners, loops, watches, files that a
// reload reads, operators.
const ownFiles = 64

// filesNeeded is how many descriptors as many clients as are allowed can take: two
// for a tunnel or a request, one for each connection that waits to be refused. 0:
// nobody says how many they may be.
func filesNeeded(maxConnections int) uint64 {
	if maxConnections == config.Unlimited {
		return 0
	}
	return 2*uint64(maxConnections) + overrun + ownFiles
}

// mostClients is filesNeeded the other way round: how many clients have a descriptor
// each, and one for their upstreams, where files may be open.
func mostClients(files uint64) int {
	return int(min(max(files, overrun+ownFiles)-overrun-ownFiles, math.MaxInt) / 2)
}

// fewFiles tells why Weir cannot run where no more than files may be open; "": it can.
func fewFiles(files uint64) string {
	if need := filesNeeded(1); files < need {
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
// allows: it is better told at the start than by failing connections.
func (g *Gateway) warnOfFewFiles() {
	most := g.current.Load().cfg.Limits.MaxConnections
	have, ok := fileLimit()
	if need := filesNeeded(most); ok && have < need {
		g.log.Warn("fewer files may be open than max_connections needs, which is lowered; raise LimitNOFILE (ulimit -n) or lower max_connections",
			"file_limit", have, "needed", need, "max_connections", most, "lowered_to", g.mostClients)
	}
}
