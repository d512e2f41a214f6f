package gateway

import (
	"errors"
	"maps"
	"slices"
	"time"

	"weir/hostabi"
	"weir/proxy/admin"
	"weir/proxy/metrics"
	"weir/proxy/relay"
)

// source is the gateway as the admin listener sees it.
type source struct{ g *Gateway }

var _ admin.Source = source{}

var errDraining = errors.New("draining")

func (s source) Ready() error {
	if s.g.isDraining() || s.g.stopping() {
		return errDraining
	}
	return nil
}

func (s source) Generation() uint64 { return uint64(s.g.current.Load().number) }

func (s source) Connections() []admin.ConnectionInfo {
	open := s.g.open()
	list := make([]admin.ConnectionInfo, 0, len(open))
	for _, t := range open {
		list = append(list, connectionInfo(t.Info()))
	}
	return list
}

func connectionInfo(i relay.Info) admin.ConnectionInfo {
	up, down := i.Flow[hostabi.ToUpstream], i.Flow[hostabi.ToClient]
	state := metrics.StateOpen
	if i.Closing {
		state = metrics.StateClosing
	}
	return admin.ConnectionInfo{
		ID: i.ID, Route: i.Route, Policy: i.Policy, Peer: i.Peer, Upstream: i.Upstream,
		State: state.String(), LimitClass: i.LimitClass, TraceID: i.TraceID,
		AgeSeconds:     time.Since(i.Started).Seconds(),
		Messages:       admin.Flow{ToUpstream: up.Messages, ToClient: down.Messages},
		Bytes:          admin.Flow{ToUpstream: up.Bytes, ToClient: down.Bytes},
		Shed:           admin.Flow{ToUpstream: up.Shed + up.Conflated, ToClient: down.Shed + down.Conflated},
		QueuedMessages: admin.Flow{ToUpstream: up.QueuedMessages, ToClient: down.QueuedMessages},
		QueuedBytes:    admin.Flow{ToUpstream: up.QueuedBytes, ToClient: down.QueuedBytes},
		EventKeys:      i.EventKeys,
	}
}

func (s source) CloseConnection(id string) bool {
	s.g.mu.Lock()
	t := s.g.tunnels[id]
	s.g.mu.Unlock()
	if t == nil {
		return false
	}
	t.Close(relay.Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "closed by the operator"})
	return true
}

func (s source) Policies() []admin.PolicyInfo {
	gen := s.g.current.Load()
	list := []admin.PolicyInfo{}
	for _, name := range slices.Sorted(maps.Keys(gen.policies)) {
		i := gen.policies[name].part.Info()
		list = append(list, admin.PolicyInfo{
			Generation: uint64(gen.number), Name: name, Module: gen.cfg.Policies[name].Module, SHA256: i.Hash, Engine: i.Engine,
			Calls: i.Calls, Faults: i.Faults, Instances: i.Instances, Breaker: i.Breaker, CachedRules: i.CachedRules, MemoryBytes: i.MemoryBytes,
		})
	}
	return list
}

func (s source) Upstreams() []admin.UpstreamInfo {
	gen := s.g.current.Load()
	list := []admin.UpstreamInfo{}
	for _, name := range slices.Sorted(maps.Keys(gen.upstreams)) {
		u := admin.UpstreamInfo{Name: name, Targets: []admin.TargetInfo{}}
		for _, t := range gen.upstreams[name].part.Status() {
			u.Targets = append(u.Targets, admin.TargetInfo{URL: t.URL, Healthy: t.Healthy, Idle: t.Idle, InUse: t.InUse})
		}
		list = append(list, u)
	}
	return list
}

func (s source) Reload() (changed bool, err error) {
	return s.g.reloadFor(true)
}
