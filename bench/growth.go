package main

import (
	"cmp"
	"strings"
)

// growth shows, for each kind of cell that has an @ in its name, its figures at
// every count, and how the largest is to the smallest: 1 is flat.
func growth(cells []cell, peers []string, all samples) string {
	var order []string
	series := map[string][]cell{}
	for _, c := range cells {
		base, at, _ := strings.Cut(c.name, "@")
		if strings.HasSuffix(at, "-routes") {
			base += " by routes"
		}
		if series[base] == nil {
			order = append(order, base)
		}
		series[base] = append(series[base], c)
	}
	var b strings.Builder
	for _, base := range order {
		var t table
		head := []string{base, "figure"}
		for _, c := range series[base] {
			_, at, _ := strings.Cut(c.name, "@")
			head = append(head, strings.TrimSuffix(at, "-routes"))
		}
		t.add(append(head, "most ÷ least")...)
		for _, m := range growing(series[base][0]) {
			for _, p := range peers {
				row := []string{p, m.name}
				least, most := 0.0, 0.0
				for _, c := range series[base] {
					v := all.values(c, p, m)
					row = append(row, shown(m.format, v))
					if len(v) > 0 {
						x := median(v)
						least, most = min(cmp.Or(least, x), x), max(most, x)
					}
				}
				t.add(append(row, three(most/least))...)
			}
		}
		b.WriteString("\n" + t.String())
	}
	return b.String()
}

// growing are the metrics to be looked at: what one message or tunnel costs,
// which should not grow, and with routes what they cost before any traffic.
func growing(c cell) []metric {
	var of []metric
	for _, m := range metrics(c) {
		if strings.HasPrefix(m.name, "CPU") || strings.HasPrefix(m.name, "kB") {
			of = append(of, m)
		}
	}
	if c.routes > 0 && c.flight == 1 {
		of = append(of, atRestMetrics...)
	}
	return of
}
