package gateway

import (
	"fmt"
	"net"

	"weir/proxy/relay"
	"weir/proxy/sock"
)

// clientLeg is a client's connection as a tunnel's leg.
type clientLeg struct {
	*sock.Leg
	conn *clientConn
}

// Close counts the connection as gone.
func (l *clientLeg) Close() error {
	l.conn.gone()
	return l.Leg.Close()
}

// Abort closes with a reset.
func (l *clientLeg) Abort() error {
	l.conn.gone()
	return l.Leg.Abort()
}

// legs makes the legs of a tunnel of a client's connection and an upstream's:
// both on one loop, where there are loops.
func (g *Gateway) legs(client *clientConn, upstream net.Conn) (near, far relay.Transport, err error) {
	other, ok := upstream.(*sock.Conn)
	if !ok {
		return nil, nil, fmt.Errorf("gateway: %T can not be a tunnel's leg", upstream)
	}
	if g.loops == nil {
		if err := client.Unblock(); err != nil {
			return nil, nil, err
		}
		return client, other, other.Unblock()
	}
	a, err := client.Leg(g.loops, nil)
	if err != nil {
		return nil, nil, err
	}
	b, err := other.Leg(g.loops, a)
	if err != nil {
		_ = a.Close()
		return nil, nil, err
	}
	return &clientLeg{a, client}, b, nil
}
