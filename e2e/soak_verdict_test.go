//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settled waits until Weir is as it was at the beginning.
func (c *chaos) settled(goroutines, files int) {
	c.t.Helper()
	var m map[string]float64
	eventually(c.t, "tunnels to be gone", func() bool {
		m = c.g.metrics()
		return len(c.g.tunnels()) == 0 && m[`weir_connections{state="open"}`]+m[`weir_connections{state="closing"}`]+m[`weir_connections{state="handshake"}`] == 0
	})
	for _, gauge := range []string{"weir_queue_bytes", "weir_inflight"} {
		if m[gauge] != 0 {
			c.wrong("%s is %v after the last tunnel", gauge, m[gauge])
		}
	}
	// Kept connections to the upstreams are no leak.
	kept := 2*soakHTTP + 8
	gone := func() bool { return c.g.goroutines() <= goroutines+kept && c.g.files() <= files+kept }
	for over := time.Now().Add(patience); !gone() && time.Now().Before(over); {
		<-time.After(20 * time.Millisecond)
	}
	if !gone() {
		_, stacks := c.g.ask("GET", "/debug/pprof/goroutine?debug=1")
		c.wrong("%d goroutines and %d descriptors are left, of %d and %d at the beginning; at most %d more may be:\n%s",
			c.g.goroutines(), c.g.files(), goroutines, files, kept, stacks)
	}
	c.reload(200)
	m = c.g.metrics()
	for series, n := range m {
		if strings.HasPrefix(series, "weir_panics_total") && n != 0 {
			c.wrong("%s is %v", series, n)
		}
	}
	if m["weir_config_last_reload_successful"] != 1 {
		c.wrong("the last reload counts as failed")
	}
}

// requests is how many HTTP requests Weir has answered.
func (c *chaos) requests() (n float64) {
	for series, value := range c.g.metrics() {
		if strings.HasPrefix(series, "weir_http_requests_total") {
			n += value
		}
	}
	return n
}

// verdict judges every tunnel, and Weir's totals by what they come to.
func (c *chaos) verdict(before float64) {
	m := c.g.metrics()
	want, ends := c.closedLines()
	s := c.judged()
	for series, n := range want {
		if m[series] != n && !strings.HasPrefix(series, "weir_faults_total") {
			c.wrong("%s is %v, the tunnels' lines come to %v", series, m[series], n)
		}
	}
	c.compareFaults(m, want, s)
	if n := m[`weir_messages_dropped_total{reason="closed"}`]; int64(n) < s.waiting {
		c.wrong("%v messages were dropped at a close, upstream_closed envelopes come to %d", n, s.waiting)
	}
	if n := c.requests() - before; n < float64(c.answered.Load()) || n > float64(c.asked.Load()) {
		c.wrong("weir_http_requests_total is %v, %d were asked and %d answered", n, c.asked.Load(), c.answered.Load())
	}
	if s.sent > 100_000 { // else the machine was too busy for it
		for what, n := range map[string]float64{"exact tunnels": float64(s.exact), "shed": s.saw["shed"], "payload_too_large": float64(s.told["payload_too_large"]), "HTTP": float64(c.ok.Load())} {
			if n == 0 {
				c.wrong("nothing of this happened: %s", what)
			}
		}
	}
	c.t.Logf("seed %d: %d tunnels to their last message, %d cut, %d handshakes refused; %d sent, %v; answered %v, untold %d; %d lost and told; %d of %d HTTP answers whole; ends %v",
		c.seed, s.exact, s.lost, c.refused.Load(), s.sent, s.saw, s.told, s.untold, s.waiting, c.ok.Load(), c.answered.Load(), slices.Sorted(keysOf(ends)))
}

// closedLines gives each tunnel its line of the log, and returns what the series have
// to be by those lines, and how many tunnels ended in which way.
func (c *chaos) closedLines() (want map[string]float64, ends map[string]int) {
	want, ends = map[string]float64{}, map[string]int{}
	names := map[any]uint32{}
	for _, l := range c.g.logs.all("msg=upgraded", "target=/soak/*") {
		id, _ := strconv.ParseUint(strings.TrimPrefix(l["target"].(string), "/soak/"), 10, 32)
		names[l["tunnel"]] = uint32(id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.g.logs.all("msg=closed") {
		if id, ok := names[l["tunnel"]]; ok {
			c.of(id).closed = l
		}
		code := strconv.Itoa(l.number("code"))
		if l.number("code") >= 4000 {
			code = "4xxx"
		}
		want[fmt.Sprintf("weir_ws_closes_total{code=%q,initiator=%q}", code, l["initiator"])]++
		if fault := l["fault"].(string); fault != "" {
			want[fmt.Sprintf("weir_faults_total{code=%q}", fault)]++
		}
		ends[fmt.Sprintf("%v %s %v", l["code"], l["initiator"], l["fault"])]++
		for _, d := range directions {
			want[fmt.Sprintf("weir_messages_total{direction=%q}", d)] += float64(l.number("messages_" + d))
		}
		want[`weir_messages_dropped_total{reason="shed"}`] += float64(l.number("shed"))
		want[`weir_messages_dropped_total{reason="conflated"}`] += float64(l.number("conflated"))
	}
	return want, ends
}

// soakTotals are what the tunnels come to.
type soakTotals struct {
	exact, lost int // tunnels whose every message is accounted for, and those that were cut
	sent        int // messages
	refused     int // by the tunnels' lines
	untold      int // refused ones for which no answer is to be there, at most
	waiting     int64
	told        map[string]int     // answers, by code
	saw         map[string]float64 // what arrived, or is known not to
}

// judged judges each tunnel that had an end.
func (c *chaos) judged() soakTotals {
	s := soakTotals{told: map[string]int{}, saw: map[string]float64{}}
	for _, t := range c.tunnels {
		if !t.done { // the client never had it
			if t.closed != nil && len(t.client) > 0 {
				c.wrong("tunnel %d has no end", t.id)
			}
			continue
		}
		v := judge(c.seed, t)
		for _, w := range v.wrongs {
			c.wrong("%s\n\t%v", w, t.closed)
		}
		s.add(t, v)
	}
	return s
}

func (s *soakTotals) add(t *soakTunnel, v *soakVerdict) {
	s.sent += t.sent
	s.waiting += v.lost
	s.refused += t.closed.number("refused")
	if v.exact {
		s.exact++
		s.untold += v.ways[0].silent + v.ways[1].silent + v.ways[0].vague + v.ways[1].vague
	} else {
		s.lost++
		s.untold += t.closed.number("refused") - v.ways[0].told - v.ways[1].told
	}
	for code, n := range v.faults {
		s.told[code] += n
	}
	for d, name := range directions {
		s.saw["messages "+name] += float64(v.ways[d].messages)
		s.saw["shed"] += float64(v.ways[d].shed)
		s.saw["conflated"] += float64(v.ways[d].conflated)
	}
}

// compareFaults holds the faults that Weir counts to the messages that were dropped,
// the answers that came and the tunnels that ended by one.
func (c *chaos) compareFaults(m, want map[string]float64, s soakTotals) {
	dropped := 0.0
	for reason, code := range map[string]string{"oversize": "payload_too_large", "inbox_full": "inbox_full", "pending_limit": "pending_limit", "rate_limited": "rate_limited"} {
		n := m[fmt.Sprintf("weir_messages_dropped_total{reason=%q}", reason)]
		dropped += n
		series := fmt.Sprintf("weir_faults_total{code=%q}", code)
		if m[series] != n+want[series] {
			c.wrong("%s is %v, %v messages were dropped for %s and %v tunnels ended by it", series, m[series], n, reason, want[series])
		}
		if missing := int(n) - s.told[code]; missing < 0 || missing > s.untold {
			c.wrong("%v messages were refused with %s, %d answers came, at most %d can be missing", n, code, s.told[code], s.untold)
		}
	}
	if int(dropped) != s.refused {
		c.wrong("%v messages were refused, the tunnels' lines come to %d", dropped, s.refused)
	}
	for _, code := range []string{"slow_consumer", "protocol_error"} {
		if series := fmt.Sprintf("weir_faults_total{code=%q}", code); m[series] != want[series] {
			c.wrong("%s is %v, %v tunnels ended by it", series, m[series], want[series])
		}
	}
}

// keysOf are the keys of m, each with its number.
func keysOf(m map[string]int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k, n := range m {
			if !yield(fmt.Sprintf("%s: %d", k, n)) {
				return
			}
		}
	}
}
