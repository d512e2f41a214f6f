package relay

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/policy"
	"weir/proxy/policy/policytest"
	"weir/proxy/wsframe"
)

// someLimits are any, small and large beside what is sent.
func someLimits(r *rand.Rand, l *config.Limits) {
	l.MaxMessageSize = []int64{3000, 60_000, 150_000, 300_000}[r.IntN(4)]
	l.MaxBufferedBytes = []int64{500, 5000, 40_000, 100_000, 400_000}[r.IntN(5)]
	l.MaxPendingBytes = l.MaxBufferedBytes / int64(1+r.IntN(2))
	l.MaxInbox = 1 + r.IntN(200)
	l.SlowConsumerGrace = []time.Duration{time.Second, 5 * time.Second, time.Minute, time.Hour}[r.IntN(4)]
	l.PingInterval = []time.Duration{config.Unlimited, 2 * time.Second, time.Minute}[r.IntN(3)]
	l.IdleTimeout = []time.Duration{3 * time.Second, time.Hour, time.Hour}[r.IntN(3)]
	l.ValidateUTF8 = r.IntN(4) == 0
}

// However a tunnel ends, and whatever changes before: what came is whole, in order and
// counted, it ends soon, and nothing is left.
func TestEverythingIsAccountedForAtAnyEnd(t *testing.T) {
	seed := rand.Uint64()
	for round := range 30 {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		policies := []*policy.Policy{nil, events(t), events(t, func(f *policytest.Funcs) { f.Shape.EventKey = nil })}
		o := []option{
			kernel(200 + r.IntN(5000)), under(policies[1]), with(func(l *config.Limits) { someLimits(r, l) }),
			func(s *setup) { s.record = []int{0, 0, 61, 700, 16_000}[r.IntN(5)] }, // smaller ones take minutes under the race detector
		}
		if r.IntN(3) == 0 {
			o = append(o, memory(int64(20_000+r.IntN(300_000))))
		}
		sizes := [][]int{{100}, {100, 1000}, {100, 2000, 90_000}, {100, 200_000}}[r.IntN(4)]
		t.Run(fmt.Sprintf("round %d", round), func(t *testing.T) {
			inTunnel(t, func(rg *rig) {
				peers := [2]*peer{rg.c, rg.u}
				var sent [2][]string
				var got [2]heard // by the direction of what was heard
				var all sync.WaitGroup
				var talks [2]sync.WaitGroup
				var hush [2]atomic.Bool
				for d := range 2 {
					got[d] = heard{ended: make(chan struct{}), codes: map[string]int{}}
					mine := [2]*rand.Rand{rand.New(rand.NewPCG(seed, r.Uint64())), rand.New(rand.NewPCG(seed, r.Uint64()))}
					lazy := []int{0, 30, 1000, 20_000}[r.IntN(4)]
					talks[d].Go(func() { sent[d] = talk(mine[0], peers[d], 100, sizes, &hush[d]) })
					all.Go(func() { got[d].listen(mine[1], peers[d^1], lazy) })
				}
				disturb(r, rg, policies)
				what := endings[r.IntN(len(endings))]
				for d, name := range []string{"client", "upstream"} {
					if how, mine := strings.CutPrefix(what, name); mine || what == "both close" {
						still := func() {
							hush[d].Store(true)
							talks[d].Wait()
						}
						peers[d].ending(how, still)
					}
				}
				began := time.Now()
				if strings.HasPrefix(what, "drain") {
					rg.Drain(time.Second)
				}
				if what == "drained twice" {
					sleep(r.IntN(5000))
					rg.Drain(time.Second)
				}
				<-rg.ended
				if took := time.Since(began); took > 10*time.Minute {
					rg.t.Errorf("%s: it took %v to end", what, took)
				}
				rg.c.w.out.change(func() { rg.c.w.out.eof = true })
				rg.u.w.out.change(func() { rg.u.w.out.eof = true })
				for d := range talks {
					hush[d].Store(true)
					talks[d].Wait()
				}
				all.Wait()
				synctest.Wait()
				read := reckon(rg, &got)
				if most := len(sent[0]) + len(sent[1]) + 2; read > float64(most) {
					rg.t.Errorf("%v messages are accounted for, %d were sent", read, most)
				}
				if n := strings.Count(rg.log.String(), "msg=closed"); n != 1 {
					rg.t.Errorf("%d lines tell of the end", n)
				}
				if rg.t.Failed() {
					rg.t.Logf("seed %d, round %d, %s, limits %+v\n%s", seed, round, what, rg.route.Load().Limits, rg.log)
				}
			}, o...)
		})
		if t.Failed() {
			return
		}
	}
}

// disturb sheds, and changes the limits and the policy, now and then.
func disturb(r *rand.Rand, rg *rig, policies []*policy.Policy) {
	for range r.IntN(10) {
		sleep(r.IntN(800))
		if r.IntN(3) == 0 {
			rg.Shed()
			continue
		}
		set := *rg.route.Load()
		someLimits(r, &set.Limits)
		set.View = policies[r.IntN(3)].View("r")
		rg.route.Store(&set)
	}
}

// endings are what tunnels end by.
var endings = []string{"drain", "drained twice", "client closes", "upstream closes", "both close", "client ends", "upstream ends", "client lost", "upstream lost", "client breaks", "upstream breaks"}

// ending has a peer end its tunnel in one of these ways; quiet returns between two of
// its messages, when it says no more.
func (p *peer) ending(how string, quiet func()) {
	switch how {
	case " ends":
		p.end()
	case " lost":
		p.lose()
	case " breaks":
		quiet()
		_, _ = p.w.in.put([]byte(strings.Repeat("\xff", 100)))
	default:
		quiet()
		_, _ = p.w.in.put(wsframe.AppendClose(nil, 4000, "over", p.mask))
	}
}

// reckon holds what was heard to what the tunnel counted, and returns how many
// messages it accounts for.
func reckon(rg *rig, got *[2]heard) float64 {
	rg.t.Helper()
	read := rg.metric("weir_messages_dropped_total", "closed")
	for d := range got {
		f, h := rg.Info().Flow[d], &got[d]
		came := int64(len(h.ids) + h.ends)
		last := -1
		for _, id := range h.ids {
			if id <= last {
				rg.t.Errorf("direction %v: message %d came behind %d", d, id, last)
			}
			last = id
		}
		if came > f.Messages && rg.u.w.record == 0 || h.close && came != f.Messages {
			rg.t.Errorf("direction %v: %d came of %d that were counted, close frame %v", d, came, f.Messages, h.close)
		}
		if int64(h.gaps) > f.Shed {
			rg.t.Errorf("direction %v: notices tell of %d shed messages, %d were shed", d, h.gaps, f.Shed)
		}
		told := int64(0)
		for code, n := range got[d^1].codes {
			if code != string(hostabi.UpstreamClosed) {
				told += int64(n)
			}
		}
		if told > f.Refused {
			rg.t.Errorf("direction %v: %d envelopes for %d refused messages", d, told, f.Refused)
		}
		read += float64(f.Messages + f.Shed + f.Conflated + f.Refused)
	}
	return read
}
