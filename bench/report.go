package main

import (
	"fmt"
	"math"
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
			med := map[string]float64{}
			for _, p := range peers {
				v := all.values(c, p, m)
				med[p] = median(v)
				row = append(row, m.format(med[p])+spread(v))
			}
			ratio, target, verdict := m.judge(med)
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
	b.WriteString("\n" + atRest(peers, all))
	if held > 0 {
		fmt.Fprintf(&b, "\n%d of %d targets met.\n", held-missed, held)
	}
	return b.String()
}

// judge compares Weir's median with the peer's.
func (m metric) judge(med map[string]float64) (ratio, target, verdict string) {
	weir, ok := med["weir"]
	if !ok || math.IsNaN(weir) {
		return "", "", ""
	}
	met := true
	if m.limit > 0 {
		target, met = "≤ "+three(m.limit), weir <= m.limit
	}
	if peer := m.against(med); peer != "" {
		r := weir / med[peer]
		ratio = fmt.Sprintf("%.2f × %s", r, peer)
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

// against is the peer to compare with, "" when it did not run.
func (m metric) against(med map[string]float64) string {
	best := ""
	for _, p := range []string{"nginx", "haproxy"} {
		v, ok := med[p]
		if !ok || math.IsNaN(v) || v <= 0 || m.peer != "" && m.peer != p {
			continue
		}
		if best == "" || m.more && v > med[best] || !m.more && v < med[best] {
			best = p
		}
	}
	return best
}

// atRest is what each peer needs before anything happens.
func atRest(peers []string, all samples) string {
	var t table
	t.add("peer", "ready after, ms", "memory at rest, MB")
	for _, p := range peers {
		var ready, rest []float64
		for _, s := range all {
			if s.peer == p && p != "none" {
				ready, rest = append(ready, s.ready), append(rest, s.rest/1e6)
			}
		}
		if len(ready) > 0 {
			t.add(p, three(median(ready)), three(median(rest)))
		}
	}
	return t.String()
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
