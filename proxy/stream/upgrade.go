package stream

import (
	"net/http"

	"weir/proxy/http1"
	"weir/proxy/upstream"
)

// Upgrade carries the WebSocket handshake in x, which client sent, to the route's
// upstream. When the upstream agrees, its 101 is in x.Resp, nothing is written yet,
// and the connection is the caller's to detach or finish. Otherwise the client has
// been told, with the upstream's own answer where it gave one, and Upgrade returns
// nil. Extensions are not offered to the upstream (RFC 6455 §9): frames pass
// verbatim, and what is judged must be readable.
func (p *Proxy) Upgrade(x *http1.Exchange, r *Route, client Client, id *RequestID) *upstream.Exchange {
	c := carriages.Get().(*carriage)
	c.proxy, c.x, c.route, c.client, c.id = p, x, r, client, id
	defer c.release()
	c.req.Upgrade = true
	c.req.Timeout = r.Limits.HandshakeTimeout
	if !c.send() {
		return nil
	}
	if c.up.Info.Status != http.StatusSwitchingProtocols {
		_, _ = c.answer() // logged and counted there
		return nil
	}
	up := c.up
	c.up = nil
	return up
}
