package policy

import (
	"sync"
	"sync/atomic"
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

// leg is who an envelope is for: over HTTP, or for a message in a direction.
type leg uint8

const (
	legHTTP leg = iota
	legToUpstream
	legToClient
	numLegs
)

func legOf(t hostabi.Transport, d hostabi.Direction) leg {
	if t == hostabi.HTTP {
		return legHTTP
	}
	return legToUpstream + leg(d&1)
}

func (l leg) transport() hostabi.Transport {
	if l == legHTTP {
		return hostabi.HTTP
	}
	return hostabi.WebSocket
}

func (l leg) direction() hostabi.Direction {
	if l == legToClient {
		return hostabi.ToClient
	}
	return hostabi.ToUpstream
}

// slotted is a value that is asked for before it is needed, and again only when
// it has an end. until is 0 for the generation, else Unix nanoseconds.
type slotted[T any] struct {
	value atomic.Pointer[T]
	until atomic.Int64
}

// due tells whether the value is out of date, to one who asks: he renews it, and
// meanwhile others get the old one.
func (s *slotted[T]) due(p *Policy) bool {
	until := s.until.Load()
	if until == 0 || p.closed.Load() {
		return false
	}
	now := p.now()
	return nanos(now) >= until && s.until.CompareAndSwap(until, nanos(now.Add(faultTTL)))
}

func (s *slotted[T]) set(value *T, until int64) {
	s.value.Store(value)
	s.until.Store(until)
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
			s.set(v.resolve(codeAt(i), l))
		}
		v.faults[i].set(v.classifyFault(codeAt(i)))
	}
	return v
}

// prewarm classifies the keys that the policy expects.
func (v *View) prewarm() {
	if !v.asks(hostabi.Classify) {
		return
	}
	for _, k := range v.policy.shape.Prewarm {
		v.miss(hostabi.ToUpstream, k, patience)
		v.miss(hostabi.ToClient, k, patience)
	}
}

// asks tells whether the guest may have an opinion.
func (v *View) asks(h hostabi.Hook) bool { return v.policy.asked[h] }

// Key reads the event key of a message; nil when every message has the empty one.
func (v *View) Key() *jsonpeek.Key { return v.policy.key }

// Keep are the fields whose values envelopes use, in the order of Values.Fields.
func (v *View) Keep() []jsonpeek.Pointer { return v.policy.keep }

// Envelope returns the envelope for a fault: of a message in direction d, or
// over HTTP, where d means nothing. It is nil only for Gap without a notice. Nobody
// waits for the guest: what is asked for again is there for those who come later.
func (v *View) Envelope(c hostabi.FaultCode, t hostabi.Transport, d hostabi.Direction) *Envelope {
	i, l := indexOf(c), legOf(t, d)
	s := &v.envelopes[i*int(numLegs)+int(l)]
	if s.due(v.policy) {
		v.policy.beside(func() { s.set(v.resolve(codeAt(i), l)) })
	}
	return s.value.Load()
}

// resolve asks the guest for an envelope. What it answers holds for the
// generation; after a failure the built-in one stands in for a while.
func (v *View) resolve(c hostabi.FaultCode, l leg) (*Envelope, int64) {
	e := builtin(c, l.transport())
	if !v.asks(hostabi.ErrorHook) || !hasEnvelope(c, l) {
		return e, 0
	}
	var asked *Envelope
	err := v.policy.patiently(patience, func() (err error) {
		asked, err = v.policy.envelope(v.route, c, l)
		return err
	})
	if err != nil {
		return e, nanos(v.policy.now().Add(faultTTL))
	}
	return asked, 0
}

// envelope asks the guest for an envelope and checks it.
func (p *Policy) envelope(route string, c hostabi.FaultCode, l leg) (*Envelope, error) {
	in := hostabi.ErrorInput{Route: route, Code: c, Transport: l.transport(), Direction: l.direction()}
	var out hostabi.ErrorOutput
	var e *Envelope
	a, err := p.ask(hostabi.ErrorHook, &in, &out, func() (err error) {
		e, err = newEnvelope(c, l.transport(), &out, p.shape.Keep, p.template)
		return err
	})
	if err == nil && !a.opinion {
		e = builtin(c, l.transport())
	}
	return e, err
}

// hasEnvelope tells whether there can be one: a notice of a gap stands between
// messages only.
func hasEnvelope(c hostabi.FaultCode, l leg) bool { return c != hostabi.Gap || l != legHTTP }

// maxTemplates is how many texts are remembered: more than a route has envelopes.
const maxTemplates = 64

// template compiles text, or finds it compiled.
func (p *Policy) template(text string) (template, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t, ok := p.templates[text]; ok {
		return t, nil
	}
	t, err := compileTemplate(text, p.shape.Keep)
	if err == nil {
		if len(p.templates) == maxTemplates { // the guest never says the same
			clear(p.templates)
		}
		p.templates[text] = t
	}
	return t, err
}

// memoSize bounds the answers a memo keeps.
const memoSize = 256

// memo keeps answers by their input, while they last.
type memo[T any] struct {
	mu sync.RWMutex
	m  map[string]memoed[T]
}

type memoed[T any] struct {
	value T
	until int64
}

func (m *memo[T]) get(key []byte, now time.Time) (T, bool) {
	m.mu.RLock()
	e, ok := m.m[string(key)]
	m.mu.RUnlock()
	return e.value, ok && (e.until == 0 || nanos(now) < e.until)
}

// put keeps value until then, in the place of any other when the memo is full.
func (m *memo[T]) put(key []byte, value T, until int64) {
	if until == expired {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.m == nil {
		m.m = make(map[string]memoed[T])
	}
	if _, known := m.m[string(key)]; !known && len(m.m) >= memoSize {
		for other := range m.m {
			delete(m.m, other)
			break
		}
	}
	m.m[string(key)] = memoed[T]{value, until}
}
