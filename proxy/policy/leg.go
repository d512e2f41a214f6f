package policy

import "weir/hostabi"

// leg is who an envelope is for: over HTTP, or for a message in a direction.
type leg uint8

const (
	legHTTP leg = iota
	legToUpstream
	legToClient
	numLegs
)

func legOf(t hostabi.Transport, d hostabi.Direction) leg {
	if t == hostabi.HTTP {
		return legHTTP
	}
	return legToUpstream + leg(d&1)
}

func (l leg) transport() hostabi.Transport {
	if l == legHTTP {
		return hostabi.HTTP
	}
	return hostabi.WebSocket
}

func (l leg) direction() hostabi.Direction {
	if l == legToClient {
		return hostabi.ToClient
	}
	return hostabi.ToUpstream
}

func directionName(d hostabi.Direction) string {
	if d == hostabi.ToClient {
		return "to the client"
	}
	return "to the upstream"
}

// String names the leg in messages.
func (l leg) String() string {
	if l == legHTTP {
		return "over HTTP"
	}
	return "on a WebSocket " + directionName(l.direction())
}
