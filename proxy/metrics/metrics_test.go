package metrics

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/hostabi"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// designed is the list of the design, "What operators expect", with the labels
// of each; HTTP requests, panics and what max_memory counts are there besides.
var designed = map[string]string{
	"weir_connections":                                  "state",
	"weir_queue_bytes":                                  "",
	"weir_messages_total":                               "direction",
	"weir_messages_dropped_total":                       "reason",
	"weir_faults_total":                                 "code",
	"weir_ws_closes_total":                              "code,initiator",
	"weir_inflight":                                     "",
	"weir_resume_total":                                 "result",
	"weir_upstream_reconnects_total":                    "result",
	"weir_policy_calls_total":                           "hook,result",
	"weir_policy_call_duration_seconds":                 "hook",
	"weir_policy_instances":                             "policy",
	"weir_policy_cached_rules":                          "policy",
	"weir_policy_unasked_total":                         "policy",
	"weir_config_last_reload_successful":                "",
	"weir_config_last_reload_success_timestamp_seconds": "",
	"weir_build_info":                                   "abi,goversion,version",
	"weir_http_requests_total":                          "code",
	"weir_panics_total":                                 "in",
	"weir_memory_bytes":                                 "",
}

func TestNamesAndLabelsAreTheDesigns(t *testing.T) {
	s := New("1.2.3")
	s.Policy("standard")
	families, err := s.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	runtimes := 0
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "weir_") {
			runtimes++
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		got[f.GetName()] = strings.Join(labels, ",")
	}
	if !maps.Equal(got, designed) {
		t.Errorf("registered %v\nwant %v", got, designed)
	}
	if runtimes == 0 {
		t.Error("neither the Go nor the process collector is registered")
	}
}

// docs/operating.md has a row for every metric of Weir's, with its type and its
// labels, and for nothing else.
func TestTheGuideNamesEveryMetric(t *testing.T) {
	guide, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(weir_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*) ?\\|.*[a-z].*\\|$").FindAllStringSubmatch(string(guide), -1) {
		told[row[1]] = row[2] + " " + strings.NewReplacer("`", "", " ", "").Replace(row[3])
	}
	s := New("1.2.3")
	s.Policy("standard")
	families, err := s.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range families {
		if labels, ok := designed[f.GetName()]; ok {
			got[f.GetName()] = strings.ToLower(f.GetType().String()) + " " + labels
		}
	}
	if !maps.Equal(told, got) {
		t.Errorf("docs/operating.md has\n%v\nexposed is\n%v", told, got)
	}
}

func TestPromlintFindsNothing(t *testing.T) {
	s := New("1.2.3")
	s.Policy("standard")
	problems, err := testutil.GatherAndLint(s.Registry, slices.Sorted(maps.Keys(designed))...)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// series reads one series as it would stand in the exposition.
func series(t *testing.T, s *Set, name string, labels ...string) float64 {
	t.Helper()
	families, err := s.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var have []string
			for _, l := range m.GetLabel() {
				have = append(have, l.GetName()+"="+l.GetValue())
			}
			if slices.Equal(have, labels) {
				switch {
				case m.Counter != nil:
					return m.Counter.GetValue()
				case m.Gauge != nil:
					return m.Gauge.GetValue()
				}
				return float64(m.Histogram.GetSampleCount())
			}
		}
	}
	t.Fatalf("no series %s %v", name, labels)
	return 0
}

func TestEachMethodMovesItsSeries(t *testing.T) {
	s := New("1.2.3")
	f := func(c prometheus.Counter, name string, labels ...string) {
		t.Helper()
		before := series(t, s, name, labels...)
		c.Add(3)
		if got := series(t, s, name, labels...) - before; got != 3 {
			t.Errorf("%s %v moved by %v, want 3", name, labels, got)
		}
	}
	f(s.Messages(hostabi.ToUpstream), "weir_messages_total", "direction=to_upstream")
	f(s.Messages(hostabi.ToClient), "weir_messages_total", "direction=to_client")
	f(s.Dropped(DroppedShed), "weir_messages_dropped_total", "reason=shed")
	f(s.Dropped(DroppedConflated), "weir_messages_dropped_total", "reason=conflated")
	f(s.Dropped(DroppedClosed), "weir_messages_dropped_total", "reason=closed")
	for _, row := range hostabi.Catalogue {
		f(s.Fault(row.Code), "weir_faults_total", "code="+string(row.Code))
	}
	f(s.Fault("made_up"), "weir_faults_total", "code=other")
	f(s.Closes(1000, ByClient), "weir_ws_closes_total", "code=1000", "initiator=client")
	f(s.Closes(1006, ByUpstream), "weir_ws_closes_total", "code=1006", "initiator=upstream")
	f(s.Closes(1015, ByWeir), "weir_ws_closes_total", "code=1015", "initiator=weir")
	f(s.Closes(3000, ByClient), "weir_ws_closes_total", "code=3xxx", "initiator=client")
	f(s.Closes(4000, ByClient), "weir_ws_closes_total", "code=4xxx", "initiator=client")
	f(s.Closes(4510, ByWeir), "weir_ws_closes_total", "code=4510", "initiator=weir")
	f(s.Closes(4999, ByClient), "weir_ws_closes_total", "code=4xxx", "initiator=client")
	f(s.Closes(0, ByClient), "weir_ws_closes_total", "code=other", "initiator=client")
	f(s.Closes(65535, ByClient), "weir_ws_closes_total", "code=other", "initiator=client")
	f(s.HTTPRequests(200), "weir_http_requests_total", "code=2xx")
	f(s.HTTPRequests(599), "weir_http_requests_total", "code=5xx")
	f(s.HTTPRequests(600), "weir_http_requests_total", "code=other")
	f(s.Panics(InTunnel), "weir_panics_total", "in=tunnel")
	f(s.HTTPRequests(-1), "weir_http_requests_total", "code=other")

	s.Connections(StateOpen).Inc()
	if got := series(t, s, "weir_connections", "state=open"); got != 1 {
		t.Errorf("weir_connections{state=open} is %v, want 1", got)
	}
}

func TestPolicyCallsAreBounded(t *testing.T) {
	s := New("1.2.3")
	s.PolicyCall(hostabi.Classify, "ok", time.Microsecond)
	s.PolicyCall(hostabi.Classify, "something a host made up", time.Microsecond)
	s.PolicyCall(hostabi.Classify, "something else", time.Microsecond)
	for result, want := range map[string]float64{"ok": 1, "other": 2, "trap": 0} {
		if got := series(t, s, "weir_policy_calls_total", "hook=classify", "result="+result); got != want {
			t.Errorf("%s calls: %v, want %v", result, got, want)
		}
	}
	if got := series(t, s, "weir_policy_call_duration_seconds", "hook=classify"); got != 3 {
		t.Errorf("%v durations, want 3", got)
	}
	families, err := s.Registry.Gather()
	if err != nil || strings.Contains(fmt.Sprint(families), `"configure"`) { // it would stay 0
		t.Errorf("there are calls of configure; %v", err)
	}
}

func TestGenerationsOfAPolicyShareItsInstances(t *testing.T) {
	s := New("1.2.3")
	was, is := s.Policy("p"), s.Policy("p")
	was.Instances.Add(2)
	is.Instances.Add(4)
	was.Instances.Sub(2) // it drained
	s.PolicyGone("p")
	if got := series(t, s, "weir_policy_instances", "policy=p"); got != 4 {
		t.Errorf("%v instances, want 4", got)
	}
	s.PolicyGone("p")
	families, err := s.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "policy" {
					t.Errorf("%s is left of policy %s", f.GetName(), l.GetValue())
				}
			}
		}
	}
}

func TestReadingsAreAskedFor(t *testing.T) {
	s := New("1.2.3")
	if got := series(t, s, "weir_queue_bytes"); got != 0 {
		t.Errorf("queue bytes %v before a source is set, want 0", got)
	}
	s.SetQueueBytes(func() float64 { return 7 })
	s.SetMemoryBytes(func() float64 { return 8 })
	s.SetInflight(func() float64 { return 9 })
	if got := series(t, s, "weir_queue_bytes"); got != 7 {
		t.Errorf("queue bytes %v, want 7", got)
	}
	if got := series(t, s, "weir_memory_bytes"); got != 8 {
		t.Errorf("memory bytes %v, want 8", got)
	}
	if got := series(t, s, "weir_inflight"); got != 9 {
		t.Errorf("inflight %v, want 9", got)
	}
}

func TestReloads(t *testing.T) {
	s := New("1.2.3")
	f := func(ok, at float64) {
		t.Helper()
		if got := series(t, s, "weir_config_last_reload_successful"); got != ok {
			t.Errorf("successful is %v, want %v", got, ok)
		}
		if got := series(t, s, "weir_config_last_reload_success_timestamp_seconds"); got != at {
			t.Errorf("timestamp is %v, want %v", got, at)
		}
	}
	s.Reloaded(time.Unix(1000, 5e8))
	f(1, 1000.5)
	s.ReloadFailed()
	f(0, 1000.5)
	s.Reloaded(time.Unix(2000, 0))
	f(1, 2000)
}

func TestCountingDoesNotAllocate(t *testing.T) {
	s := New("1.2.3")
	if n := testing.AllocsPerRun(100, func() {
		s.Messages(hostabi.ToClient).Add(8)
		s.Dropped(DroppedShed).Inc()
		s.Fault(hostabi.InboxFull).Inc()
		s.Closes(1000, ByClient).Inc()
		s.PolicyCall(hostabi.Classify, "ok", time.Microsecond)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkMessages(b *testing.B) {
	s := New("1.2.3")
	b.ReportAllocs()
	for b.Loop() {
		s.Messages(hostabi.ToClient).Add(8)
	}
}
