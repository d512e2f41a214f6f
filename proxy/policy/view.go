package policy

import (
	"sync"
	"time"

	"weir/hostabi"
	"weir/proxy/jsonpeek"
)

// numFaults are the catalogue's rows and, behind them, Gap.
var numFaults = len(hostabi.Catalogue) + 1

var faultIndex = func() map[hostabi.FaultCode]int {
	m := make(map[hostabi.FaultCode]int, numFaults)
	for i, f := range hostabi.Catalogue {
		m[f.Code] = i
	}
	m[hostabi.Gap] = len(hostabi.Catalogue)
	return m
}()

// indexOf is the place of c; a code that is not in the catalogue is answered
// like PolicyFailed.
func indexOf(c hostabi.FaultCode) int {
	if i, ok := faultIndex[c]; ok {
		return i
	}
	return faultIndex[hostabi.PolicyFailed]
}

// codeAt is the code at place i.
func codeAt(i int) hostabi.FaultCode {
	if i == len(hostabi.Catalogue) {
		return hostabi.Gap
	}
	return hostabi.Catalogue[i].Code
}

// View is a policy as one route sees it, with the route's own caches. It stays
// usable when the policy is closed.
type View struct {
	policy *Policy
	route  string
	held   int // generations that have the route; guarded by policy.mu

	// keepsNamed keeps a crowd from forgetting the keys that the policy names. All
	// views that do leave half of the room to others.
	keepsNamed bool

	rules     ruleTables
	envelopes []slotted[Envelope] // by code, then leg
	faults    []slotted[Fault]    // by code
	upstream  memo[Fault]
	framings  memo[hostabi.FramingOutput]

	// Memos are what those who judge messages remember of the rules from one batch to
	// the next, by direction.
	Memos [2]sync.Pool

	mu      sync.Mutex
	flights map[flightKey]*flight
	gone    bool // released: no rule is added any more
}

// View returns the policy's view for a route, the same one to all who have not
// released it. The first call asks the guest for the route's envelopes and fault
// classes and prewarms its rules. The view of a nil Policy gives the native defaults.
func (p *Policy) View(route string) *View {
	if p == nil {
		return nativeView()
	}
	p.build.Lock()
	defer p.build.Unlock()
	p.mu.Lock()
	v := p.views[route]
	if v != nil {
		v.held++
	}
	p.mu.Unlock()
	if v != nil {
		return v
	}
	v = newView(p, route)
	p.mu.Lock()
	p.views[route] = v
	v.keepsNamed = 2*len(p.named)*len(p.views) <= hostabi.MaxCachedKeys/2
	p.mu.Unlock()
	v.prewarm()
	return v
}

// Release gives back one View. After the last the view keeps what is cached, but its
// rules leave their room to others: it stays usable, as when the policy is closed.
func (v *View) Release() {
	p := v.policy
	if p == native {
		return
	}
	p.mu.Lock()
	v.held--
	last := v.held == 0
	if last {
		delete(p.views, v.route)
	}
	p.mu.Unlock()
	if !last {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gone = true
	for d := range v.rules {
		p.room.give(v.rules[d].Load().used)
	}
}

var nativeView = sync.OnceValue(func() *View { return newView(native, "") })

func newView(p *Policy, route string) *View {
	v := &View{
		policy: p, route: route, held: 1,
		envelopes: make([]slotted[Envelope], numFaults*int(numLegs)),
		faults:    make([]slotted[Fault], numFaults),
		flights:   make(map[flightKey]*flight),
	}
	for d := range v.rules {
		v.rules[d].Store(newTable(0))
	}
	for i := range numFaults {
		for l := range numLegs {
			s := &v.envelopes[i*int(numLegs)+int(l)]
			if !p.ahead(func() { s.set(v.resolve(codeAt(i), l)) }) {
				s.set(builtin(codeAt(i), l.transport()), outOfDate)
			}
		}
		s := &v.faults[i]
		if !p.ahead(func() { s.set(v.classifyFault(codeAt(i))) }) {
			s.set(&Fault{Retryable: faultRow(codeAt(i)).Retryable}, outOfDate)
		}
	}
	return v
}

// prewarm classifies the keys that the policy expects, while there is time for it.
func (v *View) prewarm() {
	if !v.asks(hostabi.Classify) {
		return
	}
	for _, k := range v.policy.shape.Prewarm {
		if !v.policy.ahead(func() {
			v.miss(hostabi.ToUpstream, k, patience)
			v.miss(hostabi.ToClient, k, patience)
		}) {
			return
		}
	}
}

// aheadFor is what a policy may be asked ahead for all of its views together within
// aheadEvery, since others wait for the generation: 4,096 calls of a Go guest take about
// 1 s.
const (
	aheadFor   = 5 * time.Second
	aheadEvery = time.Minute
)

// ahead runs f, which asks the guest what will be needed, and reports whether there
// was time for it.
func (p *Policy) ahead(f func()) bool {
	start := p.now()
	if start.Sub(p.aheadFrom) >= aheadEvery {
		p.aheadFrom, p.aheadTook = start, 0
	}
	if p.aheadTook >= aheadFor {
		return false
	}
	f()
	p.aheadTook += p.now().Sub(start)
	return true
}

// asks tells whether the guest may have an opinion.
func (v *View) asks(h hostabi.Hook) bool { return v.policy.asked[h] }

// Key reads the event key of a message; nil when every message has the empty one.
func (v *View) Key() *jsonpeek.Key { return v.policy.key }

// Keep are the fields whose values envelopes use, in the order of Values.Fields.
func (v *View) Keep() []jsonpeek.Pointer { return v.policy.keep }
