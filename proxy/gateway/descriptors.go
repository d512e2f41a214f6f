package gateway

import "weir/proxy/config"

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

// warnOfFewFiles says so when the process may not open what max_connections
// allows: it is better told at the start than by failing connections.
func (g *Gateway) warnOfFewFiles() {
	most := g.current.Load().cfg.Limits.MaxConnections
	have, ok := fileLimit()
	if need := filesNeeded(most); ok && have < need {
		g.log.Warn("fewer files may be open than max_connections needs; raise LimitNOFILE (ulimit -n) or lower max_connections",
			"file_limit", have, "needed", need, "max_connections", most)
	}
}
