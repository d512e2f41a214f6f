package main

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// report is the whole text of the results, in Markdown that is also fit for a
// terminal.
func report(cells []cell, peers []string, all samples) string {
	var t table
	t.add(append(append([]string{"cell", "measured"}, peers...), "weir to peer", "target", "")...)
	missed, held := 0, 0
	for _, c := range cells {
		name := c.name
		for _, m := range metrics(c) {
			row := []string{name, m.name}
			name = ""
			v := map[string][]float64{}
			for _, p := range peers {
				v[p] = all.values(c, p, m)
				row = append(row, shown(m.format, v[p]))
			}
			ratio, target, verdict := m.judge(v)
			switch verdict {
			case "met":
				held++
			case "missed":
				held++
				missed++
			}
			t.add(append(row, ratio, target, verdict)...)
		}
	}
	var b strings.Builder
	b.WriteString(t.String())
	b.WriteString("\n")
	for _, c := range cells {
		fmt.Fprintf(&b, "- `%s`: %s\n", c.name, c.title)
	}
	if held > 0 {
		fmt.Fprintf(&b, "\n%d of %d targets met.\n", held-missed, held)
	}
	return b.String()
}

// judge holds Weir to the target. A ratio is the median of the ratios of each
// round, in which the two ran one after the other: what slows the machine for
// a while slows both.
func (m metric) judge(v map[string][]float64) (ratio, target, verdict string) {
	weir := v["weir"]
	if len(weir) == 0 {
		return "", "", ""
	}
	met := true
	if m.limit > 0 {
		w := median(weir)
		target, met = "≤ "+three(m.limit), w <= m.limit
	}
	if peer, ratios := m.against(v); peer != "" {
		r := median(ratios)
		ratio = fmt.Sprintf("%.2f × %s%s", r, peer, spread(ratios))
		switch {
		case m.target > 0 && m.more:
			target, met = fmt.Sprintf("≥ %.2f", m.target), r >= m.target
		case m.target > 0:
			target, met = fmt.Sprintf("≤ %.2f", m.target), r <= m.target
		}
	}
	switch {
	case target == "":
	case met:
		verdict = "met"
	default:
		verdict = "missed"
	}
	return ratio, target, verdict
}

// against is the peer beside which Weir looks worst, and Weir's ratios to it;
// "" when there is none.
func (m metric) against(v map[string][]float64) (best string, ratios []float64) {
	for _, p := range []string{"nginx", "haproxy"} {
		if m.alone || m.peer != "" && m.peer != p || len(v[p]) == 0 || median(v[p]) <= 0 {
			continue
		}
		r := paired(v["weir"], v[p])
		if best == "" || m.more && median(r) < median(ratios) || !m.more && median(r) > median(ratios) {
			best, ratios = p, r
		}
	}
	return best, ratios
}

// atRestMetrics are of a peer that has started and done nothing yet.
var atRestMetrics = []metric{
	{name: "ready after, ms", of: func(s sample) float64 { return s.ready }, format: three},
	{name: "memory at rest, MB", of: func(s sample) float64 { return s.rest / 1e6 }, format: three},
}

// median of a metric in all samples.
func (all samples) median(m metric) string {
	var v []float64
	for _, s := range all {
		v = append(v, m.of(s))
	}
	return m.format(median(v))
}

// table is Markdown with aligned columns.
type table struct{ rows [][]string }

func (t *table) add(row ...string) { t.rows = append(t.rows, row) }

func (t *table) String() string {
	var width []int
	for _, row := range t.rows {
		for i, s := range row {
			if i == len(width) {
				width = append(width, 3)
			}
			width[i] = max(width[i], utf8.RuneCountInString(s))
		}
	}
	line := func(b *strings.Builder, cell func(i int) string) {
		for i := range width {
			b.WriteString("| " + cell(i) + " ")
		}
		b.WriteString("|\n")
	}
	var b strings.Builder
	for n, row := range t.rows {
		line(&b, func(i int) string { return row[i] + strings.Repeat(" ", width[i]-utf8.RuneCountInString(row[i])) })
		if n == 0 {
			line(&b, func(i int) string { return strings.Repeat("-", width[i]) })
		}
	}
	return b.String()
}
