package gateway

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"weir/hostabi"
	"weir/proxy/http1"
	"weir/proxy/policy"
	"weir/proxy/stream"
)

// native is what applies where no route's policy does.
var native = (*policy.Policy)(nil).View("")

// ids are those of the requests under way.
var ids = sync.Pool{New: func() any { return new(stream.RequestID) }}

// serve takes one request: route, limits, admission, and then the stream or the
// tunnel.
func (g *Gateway) serve(x *http1.Exchange) {
	conn, _ := x.Conn().(*clientConn)
	gen := g.acquire(conn.loop())
	defer gen.release(conn.loop())
	client := stream.ClientOf(x.Conn(), &x.Req, gen.cfg.Server.TrustedProxies)
	id := ids.Get().(*stream.RequestID)
	defer ids.Put(id)
	id.Take(&x.Req, client.Trusted)
	path, plain := pathOf(x.Req.Target)
	rt := gen.router.match(x.Req.Host, path)
	refuse := func(f stream.Fault) {
		f.Client, f.ID = client, id
		view := native
		if rt != nil {
			view, f.Route = rt.View, rt.Name
		}
		g.proxy.Refuse(x, view, f)
	}
	switch {
	case g.isDraining():
		x.CloseAfter()
		refuse(g.drainFault())
		return
	case conn != nil && conn.over != nil:
		x.CloseAfter()
		refuse(*conn.over)
		return
	case x.Info.HTTPS && !client.TLS && !client.Trusted:
		refuse(stream.Fault{Code: hostabi.ProtocolError, Message: "an https URI on a connection without TLS (RFC 9110 §7.4)"})
		return
	case string(x.Req.Target) == "*": // OPTIONS, about no resource: whether somebody is there (RFC 9110 §9.3.7)
		g.proxy.AnswerHere(x)
		return
	case rt == nil:
		refuse(stream.Fault{Code: hostabi.NoRoute, Message: fmt.Sprintf("no route matches host %q and path %q", x.Req.Host, path)})
		return
	case !plain && gen.router.contested(x.Req.Host, x.Req.Target, rt):
		refuse(stream.Fault{Code: hostabi.ProtocolError, Message: "a path that servers read in different ways, which lead to different routes"})
		return
	}
	x.Limit(rt.Limits.IdleTimeout, rt.Limits.WriteTimeout)
	if f := rt.enter(client.Addr); f != nil {
		refuse(*f)
		return
	}
	kept := false // by a tunnel, which leaves when it ends
	defer func() {
		if !kept {
			rt.leave(client.Addr)
		}
	}()
	class, f := rt.admit(x, client, path)
	if f != nil {
		refuse(*f)
		return
	}
	if !x.Info.Upgrade {
		g.proxy.Serve(x, &rt.Route, client, id)
		return
	}
	h := handshake{g: g, x: x, rt: rt, id: id, client: client, class: class}
	if f := h.check(); f != nil {
		refuse(*f)
		return
	}
	kept = h.run()
}

// enter counts one more exchange or tunnel on the route, unless a limit of the
// route's own is reached.
func (rt *route) enter(ip netip.Addr) *stream.Fault {
	most, mostOf := rt.Limits.MaxConnections, rt.Limits.MaxConnectionsPerIP
	total, of, ok := rt.live.clients.admit(ip, most, mostOf)
	if ok {
		return nil
	}
	return tooMany(ip, " on route "+rt.Name, total, of, most, mostOf)
}

func (rt *route) leave(ip netip.Addr) {
	rt.live.clients.remove(ip)
}

// admit asks the policy whether the request may pass, and in which class.
func (rt *route) admit(x *http1.Exchange, client stream.Client, path []byte) (class string, f *stream.Fault) {
	if !rt.View.NeedsAdmit() {
		return "", nil
	}
	seen, f := headers(x, rt.View)
	if f != nil {
		return "", f
	}
	out := rt.View.Admit(x, func() *hostabi.AdmitInput {
		in := &hostabi.AdmitInput{
			Method:  string(x.Req.Method),
			Host:    string(x.Req.Host),
			Path:    string(path),
			Query:   queryOf(x.Req.Target),
			Peer:    client.Addr.String(),
			Headers: seen,
		}
		if x.Info.Upgrade {
			in.Transport = hostabi.WebSocket
		}
		return in
	})
	if !out.Deny {
		return out.LimitClass, nil
	}
	return "", &stream.Fault{Code: out.Code, Message: out.Message}
}

// headers returns the fields that admission wants to see, of those that go on; "*" is all
// of them. A request is refused for one that some upstreams take for one of them.
func headers(x *http1.Exchange, v *policy.View) (fields []hostabi.Header, f *stream.Fault) {
	names := v.AdmitHeaders()
	if len(names) == 0 {
		return nil, nil
	}
	all := slices.Contains(names, "*")
	listed := stream.Listed(&x.Req)
	for _, field := range x.Req.Fields() {
		n := strings.ToLower(string(field.Name))
		switch {
		case all || slices.Contains(names, n):
			if !listed[n] {
				fields = append(fields, hostabi.Header{Name: n, Value: string(field.Value)})
			}
		case v.Judges(field.Name):
			return nil, &stream.Fault{Code: hostabi.ProtocolError, Message: fmt.Sprintf("%s, which some take for a header that the policy looks at", field.Name)}
		}
	}
	return fields, nil
}

func queryOf(target []byte) string {
	_, query, _ := strings.Cut(string(target), "?")
	return query
}
