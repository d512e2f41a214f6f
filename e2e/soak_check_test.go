//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// soakTunnel is what both ends of a tunnel saw, and what Weir says of it.
type soakTunnel struct {
	id       uint32
	client   []happening
	upstream []happening
	sent     int  // by the client, begun ones included
	done     bool // the client's end is gone
	closed   line // of Weir's log
}

// oneWay holds what arrived in one direction against what was sent.
type oneWay struct {
	of      *soakVerdict
	dir     int
	sent    int  // what must be accounted for; -1: up to the last that arrived
	untold  bool // refusals may have gone unanswered
	refused map[int]string
	newest  map[string]int // of each state, where sent is known

	last, gap                               int
	messages, shed, conflated, silent, told int
	vague                                   int // replaced by a newer one, or refused without an answer
}

// soakVerdict is what the check of a tunnel comes to.
type soakVerdict struct {
	seed   int64
	t      *soakTunnel
	exact  bool
	ways   [2]oneWay
	wrongs []string
	lost   int64          // by the count of an upstream_closed envelope
	faults map[string]int // answered, by code
}

func (v *soakVerdict) wrong(format string, args ...any) {
	if len(v.wrongs) < 5 {
		v.wrongs = append(v.wrongs, fmt.Sprintf("tunnel %d: ", v.t.id)+fmt.Sprintf(format, args...))
	}
}

// closedBy returns how many messages the other end says that it sent before its
// close frame; -1 when the close frame was not its own.
func closedBy(saw []happening, sends int) int {
	for _, h := range saw {
		if h.what == sawClose {
			if number, ok := strings.CutPrefix(h.text, soakName(sends)); ok {
				n, err := strconv.Atoi(number)
				if err == nil {
					return n
				}
			}
		}
	}
	return -1
}

// judge checks a tunnel. One that both ends closed in order must account for
// every message, and agree with Weir's log to the last one; of any other every
// message up to the last that arrived.
func judge(seed int64, t *soakTunnel) *soakVerdict {
	v := &soakVerdict{seed: seed, t: t, faults: map[string]int{}}
	fromUpstream, fromClient := closedBy(t.client, toClient), closedBy(t.upstream, toUpstream)
	v.exact = fromUpstream >= 0 && fromClient >= 0 && t.closed["fault"] == ""
	if v.exact && fromClient != t.sent {
		v.wrong("client sent %d and said %d", t.sent, fromClient)
	}
	first := t.closed["initiator"]
	v.ways[toUpstream] = oneWay{of: v, dir: toUpstream, sent: fromClient, untold: !v.exact || first != "client"}
	v.ways[toClient] = oneWay{of: v, dir: toClient, sent: fromUpstream, untold: !v.exact || first != "upstream"}
	for end, saw := range [2][]happening{t.upstream, t.client} {
		for _, h := range saw {
			switch h.what {
			case sawWrong:
				v.wrong("%s saw %s", [2]string{"upstream", "client"}[end], h.text)
			case sawFault:
				v.ways[h.value&1].fault(int(h.value>>1), h.text)
			case sawLost:
				if v.lost > 0 || end != toClient || h.value < 1 {
					v.wrong("upstream_closed with a count of %d after %d", h.value, v.lost)
				}
				v.lost += h.value
			}
		}
	}
	v.ways[toUpstream].check(t.upstream, v.exact)
	v.ways[toClient].check(t.client, v.exact)
	v.compare()
	return v
}

func (w *oneWay) fault(id int, code string) {
	if w.refused == nil {
		w.refused = map[int]string{}
	}
	p := plan(w.of.seed, w.of.t.id, w.dir, id)
	switch {
	case w.refused[id] != "":
		w.of.wrong("%s: message %d is refused twice, %s and %s", directions[w.dir], id, w.refused[id], code)
	case p.class == oversize && code == "payload_too_large":
	case p.class != oversize && w.dir == toUpstream && (code == "inbox_full" || code == "pending_limit" || code == "rate_limited"):
	case p.fragments > 1 && code == "pending_limit": // max_memory had no room for them
	default:
		w.of.wrong("%s: message %d (%s, %d bytes) is refused with %s", directions[w.dir], id, p.kind, p.size, code)
	}
	w.refused[id] = code
	w.told++
	w.of.faults[code]++
}

var directions = [2]string{toUpstream: "to_upstream", toClient: "to_client"}

func (w *oneWay) check(saw []happening, exact bool) {
	if exact {
		w.newest = map[string]int{}
		for id := max(1, w.sent-200); id <= w.sent; id++ {
			if p := plan(w.of.seed, w.of.t.id, w.dir, id); p.name != "" {
				w.newest[p.name] = id
			}
		}
	}
	for _, h := range saw {
		switch h.what {
		case sawGap:
			w.gap += int(h.value)
		case sawMessage:
			id := int(h.value)
			if id <= w.last {
				w.of.wrong("%s: message %d after %d", directions[w.dir], id, w.last)
				continue
			}
			if w.refused[id] != "" {
				w.of.wrong("%s: message %d is delivered and refused with %s", directions[w.dir], id, w.refused[id])
			}
			w.account(id)
			w.messages++
		}
	}
	if exact {
		w.account(w.sent + 1)
	} else {
		w.shed += w.gap
	}
}

// account explains what is missing in front of message id.
func (w *oneWay) account(id int) {
	must, may, held := 0, 0, 0 // held: shed, or refused without an answer when max_memory had no room
	var states []int
	for i := w.last + 1; i < id; i++ {
		if w.refused[i] != "" {
			continue
		}
		switch p := plan(w.of.seed, w.of.t.id, w.dir, i); {
		case (p.class == droppable || p.class == state) && p.fragments > 1 && w.untold:
			held++
		case p.class == droppable:
			must++
		case p.class == state:
			may++
			states = append(states, i)
		case w.untold && (p.class == oversize || p.fragments > 1 || w.dir == toUpstream):
			w.silent++
		default:
			w.of.wrong("%s: message %d (%s, %d bytes, %d fragments) is missing between %d and %d, gap of %d",
				directions[w.dir], i, p.kind, p.size, p.fragments, w.last, id, w.gap)
		}
	}
	vague := w.untold && w.dir == toUpstream // what a policy of the moment held for critical may have been refused
	if (w.gap < must && !vague) || w.gap > must+may+held {
		w.of.wrong("%s: a gap of %d between %d and %d, where %d droppable messages, %d states and %d of fragments are missing",
			directions[w.dir], w.gap, w.last, id, must, may, held)
	}
	if w.gap == must && w.newest != nil && !vague {
		for _, i := range states {
			if p := plan(w.of.seed, w.of.t.id, w.dir, i); w.newest[p.name] == i {
				w.of.wrong("%s: state %s of message %d is lost, and none is newer", directions[w.dir], p.name, i)
			}
		}
	}
	w.shed += w.gap
	if vague || held > 0 {
		w.vague += must + may + held - w.gap
	} else {
		w.conflated += must + may - w.gap
	}
	w.last, w.gap = id, 0
}

func (l line) number(key string) int {
	f, _ := l[key].(float64)
	return int(f)
}

// compare holds the tunnel's line in the log against what its ends saw.
func (v *soakVerdict) compare() {
	up, down, l := &v.ways[toUpstream], &v.ways[toClient], v.t.closed
	if l == nil {
		v.wrong("Weir has not logged its end")
		return
	}
	if code := l.number("code"); l["fault"] == "protocol_error" || code == 1011 || code == 1002 {
		v.wrong("closed with %d %q", code, l["reason"])
	}
	vague := up.vague + down.vague
	conflated, refused := up.conflated+down.conflated, up.told+up.silent+down.told+down.silent
	for _, c := range []struct {
		what      string
		saw, says int
		most      bool // of it there may be more
	}{
		{"messages_to_upstream", up.messages, l.number("messages_to_upstream"), false},
		{"messages_to_client", down.messages, l.number("messages_to_client"), false},
		{"shed", up.shed + down.shed, l.number("shed"), false},
		{"conflated", conflated, l.number("conflated"), vague > 0},
		{"refused", refused, l.number("refused"), vague > 0},
		{"conflated or refused", conflated + refused + vague, l.number("conflated") + l.number("refused"), false},
	} {
		if c.saw > c.says || (v.exact && !c.most && c.saw != c.says) {
			v.wrong("%s: the ends saw %d, Weir says %d (exact: %v)", c.what, c.saw, c.says, v.exact)
		}
	}
	if passed := l.number("messages_to_upstream"); passed+int(v.lost) > v.t.sent {
		v.wrong("%d passed on to the upstream and %d lost, of %d sent", passed, v.lost, v.t.sent)
	}
	if v.lost > 0 && !slices.Contains([]any{"upstream_closed", "upstream_timeout"}, l["fault"]) {
		v.wrong("%d messages lost, and the tunnel ended with fault %q", v.lost, l["fault"])
	}
}
