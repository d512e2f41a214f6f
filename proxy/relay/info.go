package relay

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"weir/hostabi"
	"weir/proxy/metrics"
)

// counter counts one thing of one direction.
type counter struct{ n atomic.Int64 }

func (c *counter) add(n int64) { c.n.Add(n) }

// count notes messages that are on the wire, and their bytes.
func (p *pump) count(ms []message, bytes int) {
	n := 0
	for i := range ms {
		switch {
		case ms[i].many > 0:
			n += ms[i].many
		case !ms[i].control:
			n++
		}
	}
	p.passed(int64(n), int64(bytes))
}

func (p *pump) passed(messages, bytes int64) {
	p.bytes.add(bytes)
	if messages > 0 {
		p.messages.add(messages)
		p.t.o.Metrics.Messages(p.dir).Add(float64(messages))
	}
}

// lose notes messages that were read and have nowhere to go any more.
func (p *pump) lose(n int64) {
	if n > 0 {
		p.lost.add(n)
		p.t.o.Metrics.Dropped(metrics.DroppedClosed).Add(float64(n))
	}
}

// seenKeys remembers the first event keys of a direction.
type seenKeys struct {
	mu   sync.Mutex // held by the pump to change, by others to read
	keys []string
}

const maxSeenKeys = 32 // per direction, shown in /connections

// note remembers key and returns it as a string; false: there are too many.
// Only the pump calls it.
func (s *seenKeys) note(key []byte) (string, bool) {
	if len(key) == 0 {
		return "", true
	}
	for _, k := range s.keys {
		if k == string(key) {
			return k, true
		}
	}
	if len(s.keys) == maxSeenKeys {
		return "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, string(key))
	return s.keys[len(s.keys)-1], true
}

func (s *seenKeys) list(into []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		if !slices.Contains(into, k) {
			into = append(into, k)
		}
	}
	return into
}

// Flow is what one direction of a tunnel carries.
type Flow struct {
	Messages, Bytes int64 // passed on
	QueuedMessages  int64 // waiting now
	QueuedBytes     int64 // wire bytes waiting now
	Shed, Conflated int64
	Refused         int64
}

// Info is a tunnel at one moment.
type Info struct {
	ID, Route, Policy, Peer, Upstream, LimitClass, TraceID string
	Started                                                time.Time
	Closing                                                bool
	Flow                                                   [2]Flow // by hostabi.Direction
	EventKeys                                              []string
}

// Info returns the tunnel as it is now.
func (t *Tunnel) Info() Info {
	i := Info{
		ID: t.o.ID, Route: t.o.Route.Name, Policy: t.o.Policy, Peer: t.o.Client.Addr, Upstream: t.o.Upstream.Addr,
		LimitClass: t.o.LimitClass, TraceID: t.o.TraceID, Started: t.start, Closing: t.ended(),
	}
	for d := range t.pumps {
		i.Flow[d] = t.flow(hostabi.Direction(d))
		i.EventKeys = t.pumps[d].seen.list(i.EventKeys)
	}
	slices.Sort(i.EventKeys)
	return i
}

func (t *Tunnel) flow(d hostabi.Direction) Flow {
	p, s := &t.pumps[d], &t.toward(d).sink
	return Flow{
		Messages: p.messages.n.Load(), Bytes: p.bytes.n.Load(), QueuedMessages: s.queued.Load(), QueuedBytes: s.bytes.Load(),
		Shed: p.shed.n.Load(), Conflated: p.conflated.n.Load(), Refused: p.refused.n.Load(),
	}
}

// logClosed writes the line that a tunnel leaves.
func (t *Tunnel) logClosed() {
	up, down := t.flow(hostabi.ToUpstream), t.flow(hostabi.ToClient)
	about := slog.Attr{} // which slog leaves out
	if t.cause.direction != "" {
		about = slog.String("direction", t.cause.direction)
	}
	t.o.Log.Info("closed",
		"tunnel", t.o.ID, "route", t.o.Route.Name, "peer", t.o.Client.Addr, "upstream", t.o.Upstream.Addr,
		"code", t.cause.Code, "reason", t.cause.Reason, "initiator", t.cause.Initiator.String(), "fault", string(t.cause.Fault), about,
		"messages_to_upstream", up.Messages, "bytes_to_upstream", up.Bytes, "messages_to_client", down.Messages, "bytes_to_client", down.Bytes,
		"shed", up.Shed+down.Shed, "conflated", up.Conflated+down.Conflated, "refused", up.Refused+down.Refused,
		"duration_ms", time.Since(t.start).Milliseconds(), "trace_id", t.o.TraceID)
}

// logFault writes the line of one refusal; a negative actual is not known.
func (t *Tunnel) logFault(p *pump, br breach, key []byte) {
	n, ok := t.o.Faults.Allow(p.now, br.code)
	if !ok {
		return
	}
	p.leaveLoop()           // a log may be slow
	measured := slog.Attr{} // which slog leaves out
	if br.actual >= 0 {
		measured = slog.Int64("actual", br.actual)
	}
	t.o.Log.Warn("refused", "suppressed", n, "tunnel", t.o.ID, "route", t.o.Route.Name, "code", string(br.code),
		"direction", directionName(p.dir), "event_key", string(key), "limit", br.limit, measured, "trace_id", t.o.TraceID)
}

func directionName(d hostabi.Direction) string {
	if d == hostabi.ToUpstream {
		return "to_upstream"
	}
	return "to_client"
}
