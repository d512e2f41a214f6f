package relay

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/wsframe"
)

// talk sends n random messages with ids, cut into random pieces, with pauses.
// It returns what was sent, by id; a kind that is not "critical" may be shed. When
// hush is set it ends, between two messages.
func talk(r *rand.Rand, p *peer, n int, sizes []int, hush *atomic.Bool) []string {
	kinds := []string{"critical", "presence", "pp", "state", "small"}
	sent := make([]string, n)
	var rest []byte
	flush := func(all bool) {
		for len(rest) > 0 && (all || r.IntN(4) > 0) {
			k := min(len(rest), 1+r.IntN(1+r.IntN(100_000)))
			_, _ = p.w.in.put(rest[:k]) // the tunnel may have ended
			rest = rest[k:]
			if r.IntN(3) == 0 {
				sleep(r.IntN(40))
			}
		}
	}
	for i := range sent {
		kind := kinds[r.IntN(len(kinds))]
		s := event(kind, i, r.IntN(sizes[r.IntN(len(sizes))]), fmt.Sprintf(`,"of":%d`, r.IntN(3)))
		sent[i] = kind
		op := wsframe.Text
		for cut := r.IntN(3 * len(s)); cut < len(s) && r.IntN(2) == 0; cut = r.IntN(2*len(s) + 1) {
			rest = append(rest, p.frame(false, op, s[:cut])...)
			if r.IntN(2) == 0 {
				rest = append(rest, p.frame(true, wsframe.Ping, "between")...)
			}
			s, op = s[cut:], wsframe.Continuation
		}
		rest = append(rest, p.frame(true, op, s)...)
		flush(false)
		if hush.Load() {
			flush(true)
			return sent[:i+1]
		}
	}
	flush(true)
	for range 30 * 60 { // until then the slowest has read everything
		if sleep(1000); hush.Load() {
			return sent
		}
	}
	_, _ = p.w.in.put(p.frame(true, wsframe.Text, `{"type":"end"}`))
	return sent
}

// heard is what one peer received.
type heard struct {
	ended chan struct{} // closed at the end of the other's talk
	ids   []int
	gaps  int
	ends  int
	codes map[string]int
	close bool // at the end came a close frame, and nothing behind it
}

// listen reads, slowly, until the tunnel is closed.
func (h *heard) listen(r *rand.Rand, p *peer, lazy int) {
	message := ""
	for {
		if lazy > 0 && r.IntN(20) == 0 {
			sleep(r.IntN(lazy))
		}
		g, err := p.next()
		if err != nil {
			return
		}
		if g.op == wsframe.Close {
			if r.IntN(2) == 0 {
				p.end()
			}
			_, err := p.next()
			h.close = err == io.EOF
			return
		}
		if g.op == wsframe.Ping {
			continue
		}
		message += g.payload
		if !g.fin {
			continue
		}
		h.note(p, message)
		message = ""
	}
}

// note takes in one message.
func (h *heard) note(p *peer, message string) {
	var m struct {
		Type  string
		ID    int
		Gap   int
		Error struct{ Code string }
	}
	if err := json.Unmarshal([]byte(message), &m); err != nil {
		p.t.Errorf("%s received %.100q: %v", p.name, message, err)
		return
	}
	switch {
	case m.Gap > 0:
		h.gaps += m.Gap
	case m.Type == "error":
		h.codes[m.Error.Code]++
	case m.Type == "end":
		h.ends++
		close(h.ended)
	default:
		h.ids = append(h.ids, m.ID)
	}
}

// Whatever happens, every message is delivered once and in order, or covered
// by a notice or an envelope.
func TestEverythingIsAccountedFor(t *testing.T) {
	seed := rand.Uint64()
	for round := range 60 {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		record := []int{0, 0, 700, 16_000}[round%4]
		o := []option{
			kernel(200 + r.IntN(5000)), under(events(t)), maxMessage([]int64{60_000, 300_000}[r.IntN(2)]), func(s *setup) { s.record = record },
			with(func(l *config.Limits) {
				l.MaxBufferedBytes = int64(500 + r.IntN(40_000))
				l.MaxPendingBytes = l.MaxBufferedBytes
				if r.IntN(4) == 0 {
					l.MaxPendingBytes /= 2
				}
				l.MaxInbox = 5 + r.IntN(1000)
				l.SlowConsumerGrace = time.Hour
			}),
		}
		if round%5 == 0 {
			o = append(o, memory(int64(20_000+r.IntN(200_000))))
		}
		sizes := [][]int{{100}, {100, 1000}, {100, 2000, 90_000}}[round%3]
		again := events(t)
		t.Run(fmt.Sprintf("round %d", round), func(t *testing.T) {
			inTunnel(t, func(rg *rig) {
				peers := [2]*peer{rg.c, rg.u}
				var sent [2][]string
				var got [2]heard // by the direction of what was heard
				var wg, listeners sync.WaitGroup
				for d := range got {
					got[d] = heard{ended: make(chan struct{}), codes: map[string]int{}}
				}
				for d := range 2 {
					mine := [2]*rand.Rand{rand.New(rand.NewPCG(seed, r.Uint64())), rand.New(rand.NewPCG(seed, r.Uint64()))}
					lazy := r.IntN(30)
					if r.IntN(2) == 0 {
						lazy *= 20
					}
					wg.Go(func() { sent[d] = talk(mine[0], peers[d], 150, sizes, new(atomic.Bool)) })
					listeners.Go(func() { got[d].listen(mine[1], peers[d^1], lazy) })
				}
				for range r.IntN(2) * r.IntN(10) { // reloads
					sleep(r.IntN(800))
					set := *rg.route.Load()
					set.Limits.MaxMessageSize = []int64{3000, 60_000, 300_000}[r.IntN(3)]
					set.Limits.MaxBufferedBytes = int64(500 + r.IntN(1+r.IntN(400_000)))
					set.Limits.MaxPendingBytes = set.Limits.MaxBufferedBytes / int64(1+r.IntN(2))
					set.Limits.MaxInbox = 1 + r.IntN(200)
					set.View = again.View("r")
					rg.route.Store(&set)
				}
				wg.Wait()
				<-got[0].ended
				<-got[1].ended
				synctest.Wait()
				for d := range 2 {
					// Envelopes about d's messages came to d, among what the other sent.
					account(t, rg, hostabi.Direction(d), sent[d], &got[d], got[d^1].codes)
				}
				rg.c.lose()
				rg.u.lose()
				listeners.Wait()
				if t.Failed() {
					t.Logf("seed %d, round %d, limits %+v", seed, round, rg.route.Load().Limits)
				}
			}, o...)
		})
		if t.Failed() {
			return
		}
	}
}

func account(t *testing.T, rg *rig, d hostabi.Direction, sent []string, h *heard, told map[string]int) {
	t.Helper()
	last, missing := -1, 0
	for _, id := range h.ids {
		if id <= last {
			t.Errorf("direction %v: message %d came behind %d", d, id, last)
		}
		missing += id - last - 1
		last = id
	}
	missing += len(sent) - 1 - last
	envelopes := 0
	for _, n := range told {
		envelopes += n
	}
	f := rg.Info().Flow[d]
	if int64(h.gaps) != f.Shed {
		t.Errorf("direction %v: notices tell of %d shed messages, %d were shed", d, h.gaps, f.Shed)
	}
	if int64(envelopes) != f.Refused {
		t.Errorf("direction %v: %d envelopes for %d refused messages: %v", d, envelopes, f.Refused, told)
	}
	if int64(missing) != f.Shed+f.Conflated+f.Refused {
		t.Errorf("direction %v: %d are missing: %d shed, %d conflated, %d refused", d, missing, f.Shed, f.Conflated, f.Refused)
	}
	if f.Messages != int64(len(h.ids))+1 {
		t.Errorf("direction %v: %d counted as passed on, %d came", d, f.Messages, len(h.ids)+1)
	}
	critical := map[string]bool{"critical": true, "small": true}
	if f.Refused == 0 {
		delivered := map[int]bool{}
		for _, id := range h.ids {
			delivered[id] = true
		}
		for id, kind := range sent {
			if critical[kind] && !delivered[id] {
				t.Errorf("direction %v: critical message %d is lost", d, id)
			}
		}
	}
}
