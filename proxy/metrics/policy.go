package metrics

import (
	"time"

	"weir/hostabi"

	"github.com/prometheus/client_golang/prometheus"
)

// callResults are the label values of weir_policy_calls_total{result}: the
// statuses of ABI.md §5.2, the ways a call can fail, and whatever else.
var callResults = []string{
	"ok", "no_opinion", "bad_input", "unsupported", "guest",
	"trap", "timeout", "input", "output", "unavailable", otherLabel,
}

// callBuckets reach from a cached compiled call to the default call timeout
// and past it, in seconds.
var callBuckets = []float64{1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 1e-1}

// policies registers what counts calls into guests.
func (s *Set) policies() {
	calls := s.counters("weir_policy_calls_total", "Calls into policies, by hook and result; cached answers are not calls.", "hook", "result")
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "weir_policy_call_duration_seconds", Help: "Duration of calls into policies.", Buckets: callBuckets,
	}, []string{"hook"})
	s.policyInstances = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "weir_policy_instances", Help: "Instances of policies that are loaded, those of draining generations among them.",
	}, []string{"policy"})
	s.policyCached = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "weir_policy_cached_rules", Help: "Event keys with a cached rule, by route and direction; new ones find no room at 4096 of a policy.",
	}, []string{"policy"})
	s.policyUnasked = s.counters("weir_policy_unasked_total", "Messages whose event key a policy was not asked about for a bound; they get the native default.", "policy")
	s.Registry.MustRegister(duration, s.policyInstances, s.policyCached)
	for i := hostabi.Classify; i < hostabi.NumHooks; i++ { // a loaded policy has answered configure
		hook := i.String()
		s.policyDuration[i] = duration.WithLabelValues(hook)
		s.policyCalls[i] = make(map[string]prometheus.Counter, len(callResults))
		for _, r := range callResults {
			s.policyCalls[i][r] = calls.WithLabelValues(hook, r)
		}
	}
}

// PolicyCall notes one call into a guest of a hook other than configure. A result
// outside the known ones counts in "other".
func (s *Set) PolicyCall(hook hostabi.Hook, result string, d time.Duration) {
	c, ok := s.policyCalls[hook][result]
	if !ok {
		c = s.policyCalls[hook][otherLabel]
	}
	c.Inc()
	s.policyDuration[hook].Observe(d.Seconds())
}

// PolicySeries are the series of one policy. Generations of it overlap while the old
// one drains, and share them: add what begins, subtract what ends, never set.
type PolicySeries struct {
	Instances   prometheus.Gauge   // that are loaded
	CachedRules prometheus.Gauge   // event keys with one
	Unasked     prometheus.Counter // messages whose event key it was not asked about for a bound
}

// Policy returns the series of a generation of the policy, until its PolicyGone.
func (s *Set) Policy(name string) PolicySeries {
	s.policiesMu.Lock()
	defer s.policiesMu.Unlock()
	s.policyHeld[name]++
	return PolicySeries{s.policyInstances.WithLabelValues(name), s.policyCached.WithLabelValues(name), s.policyUnasked.WithLabelValues(name)}
}

// PolicyGone removes the series with the last generation of the policy: names come
// and go with reloads.
func (s *Set) PolicyGone(name string) {
	s.policiesMu.Lock()
	defer s.policiesMu.Unlock()
	if s.policyHeld[name]--; s.policyHeld[name] > 0 {
		return
	}
	delete(s.policyHeld, name)
	s.policyInstances.DeleteLabelValues(name)
	s.policyCached.DeleteLabelValues(name)
	s.policyUnasked.DeleteLabelValues(name)
}
