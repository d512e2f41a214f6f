// Package metrics holds every number Weir exposes to Prometheus, with bounded
// labels whose children are resolved once.
package metrics

import (
	"runtime"
	"strconv"
	"sync"
	"time"

	"weir/hostabi"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Set is the metrics of one process. Its methods return the child itself, so a
// hot path costs an index and one atomic add; keep the child where even the
// index is too much. All methods may be called from any goroutine.
type Set struct {
	Registry *prometheus.Registry

	connections [numStates]prometheus.Gauge
	queueBytes  reading
	memoryBytes reading
	inflight    reading
	messages    [2]prometheus.Counter
	dropped     [numReasons]prometheus.Counter
	faults      map[hostabi.FaultCode]prometheus.Counter
	otherFault  prometheus.Counter
	closes      [numInitiators][numCloseCodes]prometheus.Counter
	requests    [numStatusClasses]prometheus.Counter
	panics      [numPlaces]prometheus.Counter

	policyCalls     [hostabi.NumHooks]map[string]prometheus.Counter
	policyDuration  [hostabi.NumHooks]prometheus.Observer
	policyInstances *prometheus.GaugeVec
	policyCached    *prometheus.GaugeVec
	policyUnasked   *prometheus.CounterVec
	policiesMu      sync.Mutex
	policyHeld      map[string]int // generations by name of the policy; guarded by policiesMu

	reloadOK   prometheus.Gauge
	reloadTime prometheus.Gauge
}

// New registers every metric in a registry of its own, with Go's and the
// process' collectors. version is Weir's, for weir_build_info.
func New(version string) *Set {
	s := &Set{Registry: prometheus.NewRegistry(), policyHeld: map[string]int{}}
	s.Registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	s.traffic()
	s.endings()
	s.mishaps()
	s.policies()
	s.process(version)
	return s
}

func (s *Set) counters(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	s.Registry.MustRegister(v)
	return v
}

func (s *Set) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	s.Registry.MustRegister(g)
	return g
}

// process registers what is true of the process as a whole.
func (s *Set) process(version string) {
	s.reloadOK = s.gauge("weir_config_last_reload_successful",
		"Whether the last attempt to load the configuration succeeded (1) or the one before it still runs (0).")
	s.reloadTime = s.gauge("weir_config_last_reload_success_timestamp_seconds",
		"When the configuration was loaded, or found to be the running one, in seconds since 1970.")
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "weir_build_info",
		Help: "Always 1; the labels are Weir's version, Go's, and the policy ABI's.",
		ConstLabels: prometheus.Labels{
			"version":   version,
			"goversion": runtime.Version(),
			"abi":       strconv.Itoa(hostabi.Major) + "." + strconv.Itoa(hostabi.Minor),
		},
	})
	info.Set(1)
	s.Registry.MustRegister(info)
}

// Reloaded notes that at the time now the configuration was published, or found to be
// the running one.
func (s *Set) Reloaded(now time.Time) {
	s.reloadOK.Set(1)
	s.reloadTime.Set(float64(now.UnixMilli()) / 1000)
}

// ReloadFailed notes that a configuration was refused and the last one stays.
func (s *Set) ReloadFailed() { s.reloadOK.Set(0) }
