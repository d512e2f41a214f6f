package policy

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/hostabi"
	"weir/hostabi/wasmhost"
	"weir/proxy/config"
	"weir/proxy/metrics"
)

var (
	ok     = hostabi.MakeResult(0, hostabi.StatusOK, hostabi.CacheGeneration)
	noView = hostabi.MakeResult(0, hostabi.StatusNoOpinion, hostabi.CacheGeneration)
)

// forSeconds is an answer that lasts.
func forSeconds(n uint16) hostabi.Result {
	return hostabi.MakeResult(0, hostabi.StatusOK, hostabi.Cacheability(n))
}

// fakeGuest is a policy written in Go: a hook that is nil is not exported.
type fakeGuest struct {
	shape    hostabi.Shape
	classify func(*hostabi.ClassifyInput) (hostabi.Rule, hostabi.Result)
	admit    func(*hostabi.AdmitInput) (hostabi.AdmitOutput, hostabi.Result)
	framing  func(*hostabi.FramingInput) (hostabi.FramingOutput, hostabi.Result)
	fault    func(*hostabi.FaultInput) (hostabi.FaultOutput, hostabi.Result)
	envelope func(*hostabi.ErrorInput) (hostabi.ErrorOutput, hostabi.Result)

	trap   [hostabi.NumHooks]atomic.Bool  // the hook traps
	late   [hostabi.NumHooks]atomic.Int32 // so many calls time out
	busy   [hostabi.NumHooks]atomic.Int32 // so many calls find no instance free
	down   atomic.Bool                    // nothing is called, nor looked at
	raw    [hostabi.NumHooks][]byte       // the output in place of the answer
	calls  [hostabi.NumHooks]atomic.Int64
	hold   atomic.Pointer[chan struct{}] // calls wait for it
	closed atomic.Bool
}

func (g *fakeGuest) Shape() []byte { return g.shape.AppendTo(nil) }

func (g *fakeGuest) Has(h hostabi.Hook) bool {
	return [hostabi.NumHooks]bool{true, g.classify != nil, g.admit != nil, g.framing != nil, g.fault != nil, g.envelope != nil}[h]
}

func (g *fakeGuest) Info() wasmhost.Info {
	var n int64
	for i := range g.calls {
		n += g.calls[i].Load()
	}
	return wasmhost.Info{Hash: "hash", Engine: "fake", Instances: 2, Calls: n, Breaker: "closed"}
}

func (g *fakeGuest) Close() { g.closed.Store(true) }

func (g *fakeGuest) Ask(h hostabi.Hook, who wasmhost.Caller) ([]byte, hostabi.Result, error) {
	if g.down.Load() {
		return nil, 0, &wasmhost.Fault{Policy: "p", Hook: h, Kind: wasmhost.Unavailable, Err: errors.New("not called after repeated faults")}
	}
	in, out := who.Input()
	if len(in) > hostabi.MaxInput {
		return nil, 0, &wasmhost.Fault{Policy: "p", Hook: h, Kind: wasmhost.Input, Err: errors.New("made to fail")}
	}
	g.calls[h].Add(1)
	if c := g.hold.Load(); c != nil {
		<-*c
	}
	fail := func(k wasmhost.Kind) ([]byte, hostabi.Result, error) {
		return nil, 0, &wasmhost.Fault{Policy: "p", Hook: h, Kind: k, Err: errors.New("made to fail")}
	}
	switch {
	case g.closed.Load():
		return fail(wasmhost.Unavailable)
	case g.trap[h].Load():
		return fail(wasmhost.Trap)
	case g.late[h].Add(-1) >= 0:
		return fail(wasmhost.Timeout)
	case g.busy[h].Add(-1) >= 0:
		return nil, 0, &wasmhost.Fault{Policy: "p", Hook: h, Kind: wasmhost.Unavailable, Err: &wasmhost.LateError{What: "no instance", Limit: time.Second}}
	case g.raw[h] != nil:
		return append(out, g.raw[h]...), ok, nil
	}
	var b []byte
	var r hostabi.Result
	switch h {
	case hostabi.Classify:
		b, r = reply(g.classify, in, out)
	case hostabi.Admit:
		b, r = reply(g.admit, in, out)
	case hostabi.FramingHook:
		b, r = reply(g.framing, in, out)
	case hostabi.FaultHook:
		b, r = reply(g.fault, in, out)
	case hostabi.ErrorHook:
		b, r = reply(g.envelope, in, out)
	}
	return b, r, nil
}

func reply[I, O any, PI interface {
	*I
	decoder
}, PO interface {
	*O
	encoder
}](hook func(*I) (O, hostabi.Result), in, out []byte) ([]byte, hostabi.Result) {
	var i I
	if err := PI(&i).Decode(in); err != nil {
		return nil, hostabi.MakeResult(0, hostabi.StatusBadInput, 0)
	}
	o, r := hook(&i)
	return PO(&o).AppendTo(out), r
}

// clock is a time that tests move.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1000, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// logLines keeps what was logged.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

func (l *logLines) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "")
}

// rig is a loaded policy and what it is made of.
type rig struct {
	*Policy
	g    *fakeGuest
	time *clock
	log  *logLines
	set  *metrics.Set
}

// start loads g as a policy.
func start(t testing.TB, g *fakeGuest, edit ...func(*config.Policy)) *rig {
	t.Helper()
	r, err := tryStart(t, g, edit...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func tryStart(t testing.TB, g *fakeGuest, edit ...func(*config.Policy)) (*rig, error) {
	c := config.Policy{Name: "p"}
	for _, f := range edit {
		f(&c)
	}
	r := &rig{g: g, time: &clock{}, log: &logLines{}, set: metrics.New("test")}
	o := Options{Config: c, Log: slog.New(slog.NewJSONHandler(r.log, nil)), Metrics: r.set}
	p, err := load(t.Context(), o, g, newReporter(o.Log, c.Name))
	if err != nil {
		return nil, err
	}
	p.now = r.time.now
	for i := range g.calls {
		g.calls[i].Store(0)
	}
	r.Policy = p
	return r, nil
}

// counted is the value of weir_policy_calls_total for hook and result.
func (r *rig) counted(t testing.TB, h hostabi.Hook, result string) int {
	t.Helper()
	families, err := r.set.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "weir_policy_calls_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			if slices.Contains(labels, "hook="+h.String()) && slices.Contains(labels, "result="+result) {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	t.Fatalf("no series for hook %s and result %s", h, result)
	return 0
}

// want fails unless got equals want.
func want[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
