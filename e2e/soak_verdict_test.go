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
		m = c.metrics()
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
	m = c.metrics()
	for series, n := range m {
		if strings.HasPrefix(series, "weir_panics_total") && n != 0 {
			c.wrong("%s is %v", series, n)
		}
	}
	if m["weir_config_last_reload_successful"] != 1 {
		c.wrong("the last reload counts as failed")
	}
}

func (c *chaos) metrics() map[string]float64 { return c.g.metrics() }

// requests is how many HTTP requests Weir has answered.
func (c *chaos) requests() (n float64) {
	for series, value := range c.metrics() {
		if strings.HasPrefix(series, "weir_http_requests_total") {
			n += value
		}
	}
	return n
}

// verdict judges every tunnel, and Weir's totals by what they come to.
func (c *chaos) verdict(before float64) {
	m := c.metrics()
	names := map[any]uint32{}
	for _, l := range c.g.logs.all("msg=upgraded", "target=/soak/*") {
		id, _ := strconv.ParseUint(strings.TrimPrefix(l["target"].(string), "/soak/"), 10, 32)
		names[l["tunnel"]] = uint32(id)
	}
	closed := c.g.logs.all("msg=closed")
	want, ends := map[string]float64{}, map[string]int{}
	c.mu.Lock()
	for _, l := range closed {
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
	c.mu.Unlock()
	refused, untold, exact, lost, sent := 0, 0, 0, 0, 0
	waiting := int64(0)
	told := map[string]int{}
	saw := map[string]float64{}
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
		if v.exact {
			exact++
		} else {
			lost++
		}
		sent += t.sent
		waiting += v.lost
		refused += t.closed.number("refused")
		if !v.exact {
			untold += t.closed.number("refused") - v.ways[0].told - v.ways[1].told
		} else {
			untold += v.ways[0].silent + v.ways[1].silent + v.ways[0].vague + v.ways[1].vague
		}
		for code, n := range v.faults {
			told[code] += n
		}
		for d, name := range directions {
			saw["messages "+name] += float64(v.ways[d].messages)
			saw["shed"] += float64(v.ways[d].shed)
			saw["conflated"] += float64(v.ways[d].conflated)
		}
	}
	for series, n := range want {
		if m[series] != n && !strings.HasPrefix(series, "weir_faults_total") {
			c.wrong("%s is %v, the tunnels' lines come to %v", series, m[series], n)
		}
	}
	dropped := 0.0
	for reason, code := range map[string]string{"oversize": "payload_too_large", "inbox_full": "inbox_full", "pending_limit": "pending_limit", "rate_limited": "rate_limited"} {
		n := m[fmt.Sprintf("weir_messages_dropped_total{reason=%q}", reason)]
		dropped += n
		series := fmt.Sprintf("weir_faults_total{code=%q}", code)
		if m[series] != n+want[series] {
			c.wrong("%s is %v, %v messages were dropped for %s and %v tunnels ended by it", series, m[series], n, reason, want[series])
		}
		if missing := int(n) - told[code]; missing < 0 || missing > untold {
			c.wrong("%v messages were refused with %s, %d answers came, at most %d can be missing", n, code, told[code], untold)
		}
	}
	if n := m[`weir_messages_dropped_total{reason="closed"}`]; int64(n) < waiting {
		c.wrong("%v messages were dropped at a close, upstream_closed envelopes come to %d", n, waiting)
	}
	for _, code := range []string{"slow_consumer", "protocol_error"} {
		if series := fmt.Sprintf("weir_faults_total{code=%q}", code); m[series] != want[series] {
			c.wrong("%s is %v, %v tunnels ended by it", series, m[series], want[series])
		}
	}
	if int(dropped) != refused {
		c.wrong("%v messages were refused, the tunnels' lines come to %d", dropped, refused)
	}
	if n := c.requests() - before; n < float64(c.answered.Load()) || n > float64(c.asked.Load()) {
		c.wrong("weir_http_requests_total is %v, %d were asked and %d answered", n, c.asked.Load(), c.answered.Load())
	}
	if sent > 100_000 { // else the machine was too busy for it
		for what, n := range map[string]float64{"exact tunnels": float64(exact), "shed": saw["shed"], "payload_too_large": float64(told["payload_too_large"]), "HTTP": float64(c.ok.Load())} {
			if n == 0 {
				c.wrong("nothing of this happened: %s", what)
			}
		}
	}
	c.t.Logf("seed %d: %d tunnels to their last message, %d cut, %d handshakes refused; %d sent, %v; answered %v, untold %d; %d lost and told; %d of %d HTTP answers whole; ends %v",
		c.seed, exact, lost, c.refused.Load(), sent, saw, told, untold, waiting, c.ok.Load(), c.answered.Load(), slices.Sorted(keysOf(ends)))
}

func keysOf(m map[string]int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k, n := range m {
			if !yield(fmt.Sprintf("%s: %d", k, n)) {
				return
			}
		}
	}
}
