package main

import (
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	faster := metric{more: true, target: 1}
	cheaper := metric{target: 1.15}
	nginx := metric{peer: "nginx", target: 1.2}
	small := metric{limit: 9}
	for _, c := range []struct {
		m                      metric
		nginx, haproxy, weir   float64
		ratio, target, verdict string
	}{
		{faster, 100, 200, 210, "1.05 × haproxy", "≥ 1.00", "met"},
		{faster, 300, 200, 210, "0.70 × nginx", "≥ 1.00", "missed"},
		{cheaper, 1, 2, 1.1, "1.10 × nginx", "≤ 1.15", "met"},
		{cheaper, 3, 2, 2.5, "1.25 × haproxy", "≤ 1.15", "missed"},
		{nginx, 100, 50, 110, "1.10 × nginx", "≤ 1.20", "met"},
		{small, 18, 4, 8, "2.00 × haproxy", "≤ 9.00", "met"},
		{small, 18, 4, 10, "2.50 × haproxy", "≤ 9.00", "missed"},
		{metric{}, 1, 1, 1, "1.00 × nginx", "", ""},
	} {
		r, target, v := c.m.judge(map[string][]float64{"nginx": {c.nginx}, "haproxy": {c.haproxy}, "weir": {c.weir}})
		if r != c.ratio || target != c.target || v != c.verdict {
			t.Errorf("%+v: %q %q %q", c, r, target, v)
		}
	}
	if r, target, v := faster.judge(map[string][]float64{"nginx": {1}}); r+target+v != "" {
		t.Error("a verdict without Weir")
	}
	// A machine that slows from round to round: the medians would say 1.00.
	r, _, v := faster.judge(map[string][]float64{"nginx": {300, 100, 60}, "weir": {240, 80, 100}})
	if r != "0.80 × nginx ±108%" || v != "missed" {
		t.Errorf("paired by rounds: %q %q", r, v)
	}
}

func TestMedianAndSpread(t *testing.T) {
	for _, c := range []struct {
		v      []float64
		median float64
		spread string
	}{
		{[]float64{3}, 3, ""},
		{[]float64{4, 2}, 3, ""},
		{[]float64{110, 90, 100}, 100, " ±10%"},
		{[]float64{100, 100, 100, 100, 150}, 100, " ±50%"},
	} {
		if m, s := median(c.v), spread(c.v); m != c.median || s != c.spread {
			t.Errorf("%v: %v %q", c.v, m, s)
		}
	}
}

func TestReport(t *testing.T) {
	cells, err := choose(allCells(50, 1000), "push-128,idle")
	if err != nil || len(cells) != 2 {
		t.Fatal(cells, err)
	}
	var all samples
	for _, p := range []string{"nginx", "weir"} {
		all = append(all,
			sample{cell: "push-128", peer: p, rate: 2e6, cpu: 0.5, memory: 20e6, ready: 9, rest: 3e6},
			sample{cell: "idle", peer: p, perTunnel: 8000})
	}
	text := report(cells, []string{"nginx", "weir"}, all)
	for _, want := range []string{"| push-128 | messages/s ", "2.00 M", "1.00 × nginx", "≥ 1.00", "≤ 9.00", "- `idle`: WebSocket, 1000 idle tunnels", "3 of 3 targets met."} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestChoose(t *testing.T) {
	for names, want := range map[string]int{"": 20, "push": 3, "tls": 4, "push-128,push": 3, "get-16k,solo": 2, "nothing": 0} {
		if got, err := choose(allCells(50, 1000), names); len(got) != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d cells, %v; want %d", names, len(got), err, want)
		}
	}
}

func TestGrowth(t *testing.T) {
	cells := scaleCells([]int{1, 100}, []int{1, 10}, 50)
	var all samples
	for i, c := range cells {
		all = append(all, sample{cell: c.name, peer: "weir", cpu: float64(i + 1), perTunnel: 8000, ready: 40, rest: 9e6, p50: 1, p99: 1, rate: 1})
	}
	text := growth(cells, []string{"weir"}, all)
	for _, want := range []string{
		"| one-128 | figure             | 1    | 100  | most ÷ least |",
		"| get-128 | figure              | 1    | 100  | most ÷ least |",
		"| weir    | CPU µs per response | 4.00 | 9.00 | 2.25         |",
		"| idle | figure        | 100  |",
		"| one-128 by routes | figure             | 1    | 10   |",
		"| weir              | CPU µs per message | 10.0 | 12.0 | 1.20         |",
		"| weir              | ready after, ms    | 40.0 | 40.0 | 1.00         |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestWhoRunsWhat(t *testing.T) {
	for _, c := range []struct {
		cell cell
		peer string
		want bool
	}{
		{cell{}, "none", true},
		{cell{tls: true}, "nginx", true},
		{cell{tls: true}, "none", false},
		{cell{reloads: true}, "weir", true},
		{cell{reloads: true}, "haproxy", true},
		{cell{reloads: true}, "none", false},
		{cell{stalled: 1}, "haproxy", true},
	} {
		if got := c.cell.ran(c.peer); got != c.want {
			t.Errorf("%+v on %s: %v", c.cell, c.peer, got)
		}
	}
}
