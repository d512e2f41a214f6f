// Package policy turns the answers of a WebAssembly policy into typed, cached
// decisions: rules, envelopes, verdicts, framings and fault classes.
package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"weir/hostabi"
	"weir/hostabi/wasmhost"
	"weir/proxy/config"
	"weir/proxy/crash"
	"weir/proxy/jsonpeek"
	"weir/proxy/metrics"
)

// Options are what a policy is loaded with.
type Options struct {
	Config  config.Policy // Bytes is the module
	Log     *slog.Logger  // nil: nothing is logged
	Metrics *metrics.Set  // nil: nothing is counted

	// Background is wasmhost.Options.Background: others are served meanwhile.
	Background bool
	// CallTimeout and InitTimeout are the guest's, as in wasmhost.Options; 0: the
	// defaults. An interpreter under the race detector needs more.
	CallTimeout, InitTimeout time.Duration
}

// Policy is one generation of one configured policy: a loaded module and what
// it has answered so far. It is safe for concurrent use.
type Policy struct {
	name    string
	open    bool // admit admits while the policy is down
	guest   Guest
	report  *reporter
	metrics *metrics.Set
	ready   bool // loaded: failures are reported as they come
	now     func() time.Time

	shape   hostabi.Shape
	key     *jsonpeek.Key
	keep    []jsonpeek.Pointer
	named   map[string]bool        // the keys of shape.Prewarm
	asked   [hostabi.NumHooks]bool // hooks worth asking: exported and not constant
	streak  atomic.Int64           // failures of the fault hook in a row
	faults  atomic.Int64           // answers that were refused here, not by the host
	unasked atomic.Int64           // misses that were answered natively for a bound

	series metrics.PolicySeries // where metrics is not nil

	room      room // for rules of all views
	closed    atomic.Bool
	instances int // of the pool

	behind sync.WaitGroup // renewals that nobody waits for but Close

	build     sync.Mutex    // held while a view is made, so that it is made once
	aheadFrom time.Time     // guarded by build, as aheadTook
	aheadTook time.Duration // since then
	mu        sync.Mutex
	views     map[string]*View    // by route; that are held
	templates map[string]template // by text: most envelopes of a policy are alike
}

// native answers for routes without a policy.
var native = &Policy{report: newReporter(slog.New(slog.DiscardHandler), ""), now: time.Now}

// Load compiles, configures and probes the policy. Every hook it has is called
// with samples, and every envelope of the catalogue is parsed and filled; the
// error names the policy, the hook and what happened.
func Load(ctx context.Context, o Options) (*Policy, error) {
	c := &o.Config
	input, err := configureInput(c)
	if err != nil {
		return nil, fmt.Errorf("policy %q: %w", c.Name, err)
	}
	report := newReporter(o.Log, c.Name)
	m, err := wasmhost.Load(ctx, wasmhost.Options{
		Name: c.Name, Wasm: c.Bytes, Engine: c.Engine, Configure: input, Log: report.guest,
		CallTimeout: o.CallTimeout, InitTimeout: o.InitTimeout, Background: o.Background,
		Panic:    panicked(o.Metrics, report),
		Rehearse: func(r *wasmhost.Rehearsal) { rehearse(ctx, o, r) },
	})
	if err != nil {
		return nil, err // names the policy
	}
	return load(ctx, o, m, report)
}

// panicked counts and tells panics in what works for a policy.
func panicked(m *metrics.Set, report *reporter) crash.Report {
	return func(v any, stack []byte) {
		if m != nil {
			m.Panics(metrics.InPolicy).Inc()
		}
		report.log.Error("panic", "in", metrics.InPolicy.String(), "panic", fmt.Sprint(v), "stack", string(stack))
	}
}

// LoadGuest is Load with a guest that is there already, configured. The policy
// owns it, and closes it when this fails.
func LoadGuest(ctx context.Context, o Options, g Guest) (*Policy, error) {
	return load(ctx, o, g, newReporter(o.Log, o.Config.Name))
}

// load finishes Load with a configured guest, which it closes on an error.
func load(ctx context.Context, o Options, g Guest, report *reporter) (*Policy, error) {
	p := &Policy{
		name: o.Config.Name, open: o.Config.OnFault == "open",
		guest: g, report: report, metrics: o.Metrics, now: time.Now, views: make(map[string]*View), templates: make(map[string]template),
	}
	err := p.configured(&o.Config)
	if err == nil {
		err = p.probe(ctx)
	}
	if err != nil {
		g.Close()
		return nil, fmt.Errorf("policy %q: %w", p.name, err)
	}
	p.ready = true
	p.instances = g.Info().Instances
	if p.metrics != nil {
		p.series = p.metrics.Policy(p.name)
		p.series.Instances.Add(float64(p.instances))
		p.room.counted(p.series.CachedRules)
	}
	return p, nil
}

// configured reads what weir_configure made of the operator's table.
func (p *Policy) configured(c *config.Policy) error {
	if !p.guest.Has(hostabi.Configure) && len(c.Config) > 0 {
		return fmt.Errorf("its config has %d keys, and the module has no %s to read them", len(c.Config), hostabi.Configure.Export())
	}
	if err := p.readShape(p.guest.Shape()); err != nil {
		return fmt.Errorf("hook %s: %w", hostabi.Configure, err)
	}
	return nil
}

// configureInput encodes the operator's table for weir_configure.
func configureInput(c *config.Policy) ([]byte, error) {
	table := []byte("{}")
	if c.Config != nil {
		var err error
		if table, err = json.Marshal(c.Config); err != nil {
			return nil, fmt.Errorf("config cannot be written as JSON: %w", err)
		}
	}
	if len(table) > math.MaxUint16 {
		return nil, fmt.Errorf("config of %d bytes as JSON exceeds %d", len(table), math.MaxUint16)
	}
	in := hostabi.ConfigureInput{Policy: c.Name, Config: table, HostMinor: hostabi.Minor}
	b := in.AppendTo(nil)
	if len(b) > hostabi.MaxInput {
		return nil, fmt.Errorf("config and name of %d bytes exceed %d", len(b), hostabi.MaxInput)
	}
	return b, nil
}

// Close gives the module back. It waits for calls under way; views that are
// still held answer from what is cached and with the native defaults.
func (p *Policy) Close() {
	if p == nil || p.end() {
		return
	}
	p.guest.Close()
	p.behind.Wait()
	if p.metrics != nil {
		p.series.Instances.Sub(float64(p.instances))
		p.room.counted(nil)
		p.metrics.PolicyGone(p.name)
	}
	p.report.flush()
}

// end refuses what is to begin from here on, and reports whether it did already.
func (p *Policy) end() (already bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed.Swap(true)
}

// beside runs f, which asks the guest, without the caller; not once p is closed.
func (p *Policy) beside(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed.Load() {
		p.behind.Go(func() { panicked(p.metrics, p.report).Contain(f) })
	}
}

// Info describes a policy for operators.
type Info struct {
	Hash        string // SHA-256 of the module, hex
	Engine      string
	Instances   int
	Calls       int64
	Faults      int64  // calls that failed, refused answers included
	Unasked     int64  // rules that were not asked for: budget spent, cache full, key too long
	Breaker     string // "closed", "open" or "half-open"
	MemoryBytes int64  // linear memory of all instances
	CachedRules int    // at most hostabi.MaxCachedKeys
}

// Info returns the policy's counters as they are now.
func (p *Policy) Info() Info {
	i := p.guest.Info()
	return Info{
		Hash: i.Hash, Engine: i.Engine, Instances: i.Instances,
		Calls: i.Calls, Faults: i.Faults + p.faults.Load(), Unasked: p.unasked.Load(),
		Breaker: i.Breaker, MemoryBytes: i.MemoryBytes, CachedRules: p.room.used(),
	}
}
