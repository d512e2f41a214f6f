package gateway

import (
	"bytes"
	"cmp"
	"crypto/sha1" //nolint:gosec // RFC 6455 §4.2.2 asks for it; it protects nothing
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"weir/hostabi"
	"weir/proxy/http1"
	"weir/proxy/metrics"
	"weir/proxy/relay"
	"weir/proxy/stream"
	"weir/proxy/upstream"
)

// handshake makes a tunnel of a request that asks for one: the upstream is
// dialled first, and what it answers is what the client gets.
type handshake struct {
	g      *Gateway
	x      *http1.Exchange
	rt     *route
	id     *stream.RequestID
	client stream.Client
	class  string // limit class that admit gave
}

// check refuses what needs no upstream to be refused: RFC 6455 §4.2.1, the
// origin, and a process without memory for more.
func (h *handshake) check() *stream.Fault {
	req := &h.x.Req
	if v := bytes.Join(req.Values("sec-websocket-version"), []byte(", ")); string(v) != "13" {
		h.x.Resp.Set("Sec-WebSocket-Version", "13")
		return &stream.Fault{Code: hostabi.ProtocolError, Message: fmt.Sprintf("Sec-WebSocket-Version is %q, 13 is spoken here (RFC 6455 §4.4)", v)}
	}
	keys := req.Values("sec-websocket-key")
	if len(keys) != 1 {
		return &stream.Fault{Code: hostabi.ProtocolError, Message: fmt.Sprintf("%d Sec-WebSocket-Key fields, one is needed (RFC 6455 §4.2.1)", len(keys))}
	}
	if raw, err := base64.StdEncoding.DecodeString(string(keys[0])); err != nil || len(raw) != 16 {
		return &stream.Fault{Code: hostabi.ProtocolError, Message: "Sec-WebSocket-Key is not 16 bytes in base64 (RFC 6455 §4.2.1)"}
	}
	if origins := req.Values("origin"); len(h.rt.origins) > 0 && len(origins) > 0 {
		origin := strings.ToLower(string(origins[0]))
		if len(origins) > 1 || (!slices.Contains(h.rt.origins, origin) && !slices.Contains(h.rt.origins, "*")) {
			return &stream.Fault{Code: hostabi.NotAdmitted, Message: fmt.Sprintf("origin %q is not in allowed_origins of route %s", origin, h.rt.Name)}
		}
	}
	if max, mark, used := h.rt.live.relay.Memory.Full(); used > 0 {
		h.g.askForShedding()
		return &stream.Fault{
			Code: hostabi.TooManyConnections, Limit: mark, Actual: used,
			Message: fmt.Sprintf("%d bytes are held, above %d no tunnel is begun: max_memory is %d", used, mark, max),
		}
	}
	return nil
}

// run dials, upgrades and starts the tunnel, which leaves the route at its end.
// It returns false when there is no tunnel; the client has been told why.
func (h *handshake) run() bool {
	g, x := h.g, h.x
	conn := x.Conn().(*clientConn)
	conn.count(g.metrics.Connections(metrics.StateHandshake))
	back := func() bool {
		conn.count(g.metrics.Connections(metrics.StateHTTP)) // unless it has ended
		return false
	}
	key := string(x.Req.Get("sec-websocket-key"))
	offered := tokens(x.Req.Values("sec-websocket-protocol"))
	up := g.proxy.Upgrade(x, &h.rt.Route, h.client, h.id)
	if up == nil {
		return back()
	}
	if err := checkUpgrade(&x.Resp, &up.Info, key, offered); err != nil {
		up.Finish(false)
		x.Resp.Reset()
		g.proxy.Refuse(x, h.rt.View, stream.Fault{
			Code: hostabi.UpstreamUnavailable, Message: "the upstream's answer to the handshake is not a WebSocket", Route: h.rt.Name, Client: h.client, ID: h.id, Err: err,
		})
		return back()
	}
	stream.RemoveHops(&x.Resp)
	if err := cmp.Or(x.Start(0), x.Flush()); err != nil {
		up.Finish(false)
		return back()
	}
	return h.begin(conn, up)
}

// begin makes the tunnel of a handshake that both peers have agreed to, and starts
// it. It returns false when their connections are lost.
func (h *handshake) begin(conn *clientConn, up *upstream.Exchange) bool {
	g, x := h.g, h.x
	client := relay.Leg{Addr: h.client.LogName(conn)}
	target, _, _ := strings.Cut(string(x.Req.Target), "?") // a query may hold secrets
	_, client.Buffered = x.Detach()
	other, buffered := up.Detach()
	near, far, err := g.legs(conn, other)
	if err != nil {
		g.log.Warn("a connection is lost at its upgrade", "route", h.rt.Name, "peer", client.Addr, "error", err.Error())
		_ = conn.Close()
		_ = other.Close()
		up.Finish(false)
		return false
	}
	begun := false
	defer func() {
		if !begun { // a panic: nobody else knows of these
			_ = near.Close()
			_ = far.Close()
			up.Finish(false)
		}
	}()
	tunnel := "t" + strconv.FormatUint(g.lastID.Add(1), 36)
	g.log.Info("upgraded", "tunnel", tunnel, "route", h.rt.Name, "peer", client.Addr, "upstream", up.URL, "target", target,
		"limit_class", h.class, "request_id", h.id.String(), "trace_id", h.id.TraceID())
	client.Transport = near
	rt, addr := h.rt, h.client.Addr
	t := relay.New(relay.Options{
		ID: tunnel, Route: &h.rt.live.relay, Policy: h.rt.policy,
		Client:   client,
		Upstream: relay.Leg{Transport: far, Buffered: buffered, Addr: up.URL},
		TraceID:  h.id.TraceID(), LimitClass: h.class,
		Metrics: g.metrics, Log: g.log, Faults: g.faults, Pressure: g.askForShedding,
		Closed: func(t *relay.Tunnel) {
			up.Finish(false) // until now its target was in use
			rt.leave(addr)
			g.forget(t) // last: whoever closes the gateway waits for that
		},
	})
	conn.count(nil)
	begun = true // from here on the tunnel gives all of it back
	g.start(t)
	return true
}

// checkUpgrade holds the upstream to RFC 6455 §4.1: WebSocket, its accept key,
// no extension, and a subprotocol only if the client offered it. A 101 has no
// body (RFC 9110 §15.2): bytes of one would be taken for frames.
func checkUpgrade(resp *http1.Response, info *http1.ResponseInfo, key string, offered []string) error {
	if to := resp.Values("upgrade"); len(to) != 1 || !http1.EqualFold(to[0], "websocket") {
		return fmt.Errorf("its Upgrade is %q, must be websocket (RFC 6455 §4.1)", to)
	}
	if options := tokens(resp.Values("connection")); !slices.ContainsFunc(options, func(o string) bool { return http1.EqualFold([]byte(o), "upgrade") }) {
		return fmt.Errorf("its Connection is %q, must have Upgrade (RFC 6455 §4.1)", options)
	}
	if info.Chunked || info.ContentLength > 0 {
		return errors.New("it announces a body, a 101 has none (RFC 9110 §15.2)")
	}
	if got, want := resp.Values("sec-websocket-accept"), acceptKey(key); len(got) != 1 || string(got[0]) != want {
		return fmt.Errorf("Sec-WebSocket-Accept is %q, must be %q (RFC 6455 §4.1)", got, want) //nolint:staticcheck // a field's name
	}
	if ext := tokens(resp.Values("sec-websocket-extensions")); len(ext) > 0 {
		return fmt.Errorf("extensions %q were not offered (RFC 6455 §4.1)", ext)
	}
	chosen := tokens(resp.Values("sec-websocket-protocol"))
	if len(chosen) > 1 || (len(chosen) == 1 && !slices.Contains(offered, chosen[0])) {
		return fmt.Errorf("subprotocol %q was not offered (RFC 6455 §4.1)", chosen)
	}
	return nil
}

// acceptKey is the answer to a Sec-WebSocket-Key (RFC 6455 §4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
	return base64.StdEncoding.EncodeToString(sum[:])
}

// tokens splits the comma-separated lists of a header's fields.
func tokens(fields [][]byte) (list []string) {
	for _, f := range fields {
		for t := range bytes.SplitSeq(f, []byte{','}) {
			if t = http1.TrimOWS(t); len(t) > 0 {
				list = append(list, string(t))
			}
		}
	}
	return list
}
