package metrics

import (
	"strconv"

	"weir/hostabi"

	"github.com/prometheus/client_golang/prometheus"
)

// Initiator is who closed a tunnel first.
type Initiator uint8

// Initiators.
const (
	ByClient Initiator = iota
	ByUpstream
	ByWeir
	numInitiators
)

// String returns the initiator as it stands in labels and logs.
func (i Initiator) String() string {
	return [numInitiators]string{"client", "upstream", "weir"}[i]
}

// Weir's own close code among those of applications (hostabi.SessionExpired).
const sessionExpired = 4510

// Series of weir_ws_closes_total. Codes 1000 to 1015 have one each, at their
// distance from 1000; those of libraries and applications share one.
const (
	closeLibrary = 16 + iota // 3000–3999
	closeApp                 // 4000–4999
	closeSession             // sessionExpired
	closeOther               // what no peer may send
	numCloseCodes
)

// closeIndex is the series of code.
func closeIndex(code uint16) int {
	switch {
	case code >= 1000 && code <= 1015:
		return int(code - 1000)
	case code == sessionExpired:
		return closeSession
	case code >= 3000 && code <= 3999:
		return closeLibrary
	case code >= 4000 && code <= 4999:
		return closeApp
	}
	return closeOther
}

// closeLabel is the label of series i.
func closeLabel(i int) string {
	switch i {
	case closeLibrary:
		return "3xxx"
	case closeApp:
		return "4xxx"
	case closeSession:
		return strconv.Itoa(sessionExpired)
	case closeOther:
		return otherLabel
	}
	return strconv.Itoa(1000 + i)
}

// endings registers what counts faults, closes and recoveries.
func (s *Set) endings() {
	faults := s.counters("weir_faults_total", "Faults by code: whatever Weir refused or lost.", "code")
	s.faults = make(map[hostabi.FaultCode]prometheus.Counter, len(hostabi.Catalogue))
	for _, f := range hostabi.Catalogue {
		s.faults[f.Code] = faults.WithLabelValues(string(f.Code))
	}
	s.otherFault = faults.WithLabelValues(otherLabel)
	closes := s.counters("weir_ws_closes_total", "Tunnels ended, by close code and who closed first.", "code", "initiator")
	for who := range s.closes {
		for i := range s.closes[who] {
			s.closes[who][i] = closes.WithLabelValues(closeLabel(i), Initiator(who).String())
		}
	}
	// Of what this version does not do yet, at 0.
	resumes := s.counters("weir_resume_total", "Sessions that a client asked to resume, by result.", "result")
	for _, result := range []string{"ok", "expired", "refused"} {
		resumes.WithLabelValues(result)
	}
	reconnects := s.counters("weir_upstream_reconnects_total",
		"Attempts to give an open tunnel a new upstream connection, by result.", "result")
	for _, result := range []string{"ok", "failed", "gave_up"} {
		reconnects.WithLabelValues(result)
	}
}

// Fault counts faults of code; codes outside the catalogue share one series.
func (s *Set) Fault(code hostabi.FaultCode) prometheus.Counter {
	if c, ok := s.faults[code]; ok {
		return c
	}
	return s.otherFault
}

// Closes counts tunnels that ended with code, which who sent or caused first;
// 1005 stands for a close without a code.
func (s *Set) Closes(code uint16, who Initiator) prometheus.Counter {
	return s.closes[who][closeIndex(code)]
}
