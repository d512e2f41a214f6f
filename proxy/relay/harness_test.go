package relay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"weir/hostabi"
	"weir/proxy/config"
	"weir/proxy/faultlog"
	"weir/proxy/flow"
	"weir/proxy/leak"
	"weir/proxy/mem"
	"weir/proxy/metrics"
	"weir/proxy/policy"
	"weir/proxy/policy/policytest"
	"weir/proxy/wsframe"
)

// TestMain fails when goroutines of this package outlive its tests.
func TestMain(m *testing.M) {
	leak.Exit(m.Run(), leak.Goroutines("weir/proxy/"), func() string {
		if n := mem.InUse(); n != 0 {
			return fmt.Sprint(n, " blocks of queues")
		}
		return ""
	})
}

// rig is a tunnel in a bubble with everything around it.
type rig struct {
	*Tunnel
	t        *testing.T
	c, u     *peer
	route    *Route
	memory   *flow.Budget
	metrics  *metrics.Set
	log      *bytes.Buffer
	ended    chan struct{}
	pressure atomic.Int64
	hurts    bool // something was made to panic
}

// peer is a client or an upstream, as a test plays it. What it sends never
// waits; what Weir sends it stays in the kernel until it is read.
type peer struct {
	t    *testing.T
	name string
	mask *[4]byte
	w    *wire // Weir's end
}

// limits are the defaults of a tunnel in tests.
func limits() config.Limits {
	return config.Limits{
		MaxMessageSize: 1 << 20, MaxBufferedBytes: 64 << 10, MaxInbox: 1000, MaxPendingBytes: 64 << 10,
		IdleTimeout: time.Hour, SlowConsumerGrace: 5 * time.Second,
	}
}

type option func(*setup)

type setup struct {
	settings  Settings
	maxMemory int64
	kernel    int // bytes that a peer's kernel takes unread; 0: any number
	steps     int // of a TryRead; 0: 1
	record    int
	loop      bool // pumps are called by loops
	early     [2][]byte
	hurt      [2]string    // methods of the wires that panic from the start
	badLog    string       // the line whose writing panics
	badEnd    bool         // Closed panics
	before    func(r *rig) // Run
}

func with(f func(*config.Limits)) option { return func(s *setup) { f(&s.settings.Limits) } }
func under(p *policy.Policy) option      { return func(s *setup) { s.settings.View = p.View("r") } }
func kernel(n int) option                { return func(s *setup) { s.kernel = n } }
func memory(n int64) option              { return func(s *setup) { s.maxMemory = n } }

// inTunnel runs f with a tunnel whose peers are the test's, in a bubble: once
// with pumps in goroutines and once with pumps on loops. The tunnel has to come
// to its end, and leave nothing.
func inTunnel(t *testing.T, f func(r *rig), options ...option) {
	t.Helper()
	for _, loop := range []bool{false, true} {
		s := setup{settings: Settings{View: (*policy.Policy)(nil).View("r"), Limits: limits()}, loop: loop}
		for _, o := range options {
			o(&s)
		}
		name := "in goroutines"
		if loop {
			name = "on loops"
		}
		t.Run(name, func(t *testing.T) { inBubble(t, f, &s) })
	}
}

func inBubble(t *testing.T, f func(r *rig), s *setup) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, s)
		if s.before != nil {
			s.before(r)
		}
		r.Run()
		defer func() {
			r.Close(Cause{Initiator: metrics.ByWeir, Code: 1001, Reason: "the test is over"})
			r.c.lose()
			r.u.lose()
			<-r.ended
			synctest.Wait()
			r.leavesNothing()
		}()
		f(r)
	})
}

func newRig(t *testing.T, s *setup) *rig {
	r := &rig{t: t, memory: flow.NewBudget(s.maxMemory, nil), metrics: metrics.New("test"), log: &bytes.Buffer{}, ended: make(chan struct{})}
	r.route = &Route{Name: "r", Memory: r.memory}
	r.route.Store(&s.settings)
	wires := [2]*wire{}
	for i := range wires {
		wires[i] = &wire{in: newStream(0), out: newStream(s.kernel), record: s.record, steps: s.steps}
	}
	r.c = &peer{t: t, name: "client", w: wires[0], mask: &[4]byte{0x11, 0x22, 0x33, 0x44}}
	r.u = &peer{t: t, name: "upstream", w: wires[1]}
	for i := range wires {
		wires[i].panicOn.Store(s.hurt[i])
	}
	log := slog.New(badLog{slog.NewTextHandler(r.log, nil), s.badLog})
	ends := [2]Transport{wires[0], wires[1]}
	if s.loop {
		ends = [2]Transport{newLoopWire(wires[0]), newLoopWire(wires[1])}
	}
	r.Tunnel = New(Options{
		ID: "t1", Route: r.route, TraceID: "trace", Metrics: r.metrics, Log: log, Faults: faultlog.New(log),
		Client:   Leg{Transport: ends[0], Addr: "c", Buffered: s.early[0]},
		Upstream: Leg{Transport: ends[1], Addr: "u", Buffered: s.early[1]},
		Pressure: func() { r.pressure.Add(1) },
		Closed: func(*Tunnel) {
			close(r.ended)
			if s.badEnd {
				panic("made to")
			}
		},
	})
	return r
}

func (r *rig) leavesNothing() {
	r.t.Helper()
	if n := r.memory.Used(); n != 0 {
		r.t.Errorf("%d bytes of memory are reserved at the end", n)
	}
	for d := range r.pumps {
		if p := &r.pumps[d]; p.buf != nil || p.hold != nil || p.carry != nil {
			r.t.Errorf("pump %d holds memory at the end", d)
		}
	}
	for d := range r.legs {
		if s := &r.legs[d].sink; !s.queue.Empty() || s.writing || s.stalled != 0 {
			r.t.Errorf("sink %d: empty %v, writing %v, stalled %d at the end", d, s.queue.Empty(), s.writing, s.stalled)
		}
	}
	if r.watch.Stop() || r.grace != nil && r.grace.Stop() {
		r.t.Error("a timer is armed at the end")
	}
	for _, s := range []string{"open", "closing"} {
		if v := r.metric("weir_connections", s); v != 0 {
			r.t.Errorf("weir_connections{%v} is %v at the end", s, v)
		}
	}
	if strings.Contains(r.log.String(), "panic") != r.hurts {
		r.t.Error(r.log)
	}
}

// flow returns what one direction carried so far, when all has come to rest.
func (r *rig) carried(d hostabi.Direction) Flow {
	synctest.Wait()
	return r.Info().Flow[d]
}

// frame is one frame as this peer sends it.
func (p *peer) frame(fin bool, op wsframe.Opcode, payload string) []byte {
	b := wsframe.AppendFrame(nil, op, p.mask, []byte(payload))
	if !fin {
		b[0] &^= 0x80
	}
	return b
}

func (p *peer) raw(b ...[]byte) {
	p.t.Helper()
	for _, b := range b {
		if _, err := p.w.in.put(b); err != nil {
			p.t.Fatalf("%s sends: %v", p.name, err)
		}
	}
}

func (p *peer) send(texts ...string) {
	p.t.Helper()
	for _, s := range texts {
		p.raw(p.frame(true, wsframe.Text, s))
	}
}

func (p *peer) ping(s string) { p.raw(p.frame(true, wsframe.Ping, s)) }
func (p *peer) pong(s string) { p.raw(p.frame(true, wsframe.Pong, s)) }

func (p *peer) close(code uint16, reason string) {
	p.raw(wsframe.AppendClose(nil, code, reason, p.mask))
}

// end closes the sending side; lose breaks the connection both ways.
func (p *peer) end() { p.w.in.change(func() { p.w.in.eof = true }) }

func (p *peer) lose() {
	p.w.in.change(func() { p.w.in.reset, p.w.in.buf = true, nil })
	p.w.out.change(func() { p.w.out.reset = true })
}

// read returns what was sent to this peer: n bytes, or fewer at the end.
func (p *peer) read(n int) []byte {
	s := p.w.out
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []byte
	for len(got) < n {
		if k := min(n-len(got), len(s.buf)); k > 0 {
			got = append(got, s.buf[:k]...)
			s.buf = s.buf[k:]
			s.taken += uint64(k)
			s.changed.Broadcast()
		} else if s.eof || s.reset {
			break
		} else {
			s.changed.Wait()
		}
	}
	return got
}

// got is one frame that a peer received.
type got struct {
	op      wsframe.Opcode
	fin     bool
	payload string
}

func (g got) String() string {
	if g.op == wsframe.Close {
		code, reason, err := wsframe.ParseClose([]byte(g.payload))
		return fmt.Sprint("close ", code, " ", reason, err)
	}
	return fmt.Sprintf("%v fin=%v %.200q", g.op, g.fin, g.payload)
}

// next reads one frame; at the end of the connection it returns io.EOF, at a
// reset, which may come inside the header, ECONNRESET.
func (p *peer) next() (got, error) {
	p.t.Helper()
	reset := func() (yes bool) {
		p.w.out.change(func() { yes = p.w.out.reset })
		return yes
	}
	head := p.read(2)
	if len(head) < 2 {
		if reset() {
			return got{}, syscall.ECONNRESET
		}
		return got{}, io.EOF
	}
	more := 0
	switch head[1] & 0x7F {
	case 126:
		more = 2
	case 127:
		more = 8
	}
	if head[1]&0x80 != 0 {
		more += 4
	}
	head = append(head, p.read(more)...)
	h, ok, err := wsframe.Parse(head)
	if err == nil && !ok && reset() {
		return got{}, syscall.ECONNRESET
	}
	if !ok || err != nil {
		p.t.Fatalf("%s received a broken header % x: %v", p.name, head, err)
	}
	if h.Masked != (p.mask == nil) {
		p.t.Fatalf("%s received a frame with masked=%v", p.name, h.Masked)
	}
	payload := p.read(int(h.Length))
	if int64(len(payload)) < h.Length {
		return got{}, io.ErrUnexpectedEOF
	}
	wsframe.Mask(payload, h.Mask, 0)
	return got{h.Opcode, h.Fin, string(payload)}, nil
}

// expect reads text messages and compares them.
func (p *peer) expect(texts ...string) {
	p.t.Helper()
	for _, want := range texts {
		p.expectFrame(got{wsframe.Text, true, want})
	}
}

func (p *peer) expectFrame(want got) {
	p.t.Helper()
	g, err := p.next()
	if err != nil || g != want {
		p.t.Fatalf("%s received %v, %v; want %v", p.name, g, err, want)
	}
}

// expectBytes reads exactly these bytes.
func (p *peer) expectBytes(want []byte) {
	p.t.Helper()
	if g := p.read(len(want)); !bytes.Equal(g, want) {
		p.t.Fatalf("%s received %d bytes that differ from the %d sent:\n%.100q\n%.100q", p.name, len(g), len(want), g, want)
	}
}

// envelope reads one and returns what it says.
func (p *peer) envelope() (e struct {
	Code          string
	Limit, Actual int64
	Message       string
	Retryable     bool
	TraceID       string `json:"trace_id"`
},
) {
	p.t.Helper()
	g, err := p.next()
	if err != nil {
		p.t.Fatalf("%s waits for an envelope: %v", p.name, err)
	}
	var m struct {
		Type  string
		Error json.RawMessage
	}
	if json.Unmarshal([]byte(g.payload), &m) != nil || m.Type != "error" || json.Unmarshal(m.Error, &e) != nil || e.TraceID != "trace" {
		p.t.Fatalf("%s received %v, want an envelope", p.name, g)
	}
	return e
}

func (p *peer) refused(code hostabi.FaultCode, limit, actual int64) {
	p.t.Helper()
	e := p.envelope()
	if e.Code != string(code) || e.Limit != limit || (actual >= 0 && e.Actual != actual) {
		p.t.Fatalf("%s received %+v, want %s with limit %d, actual %d", p.name, e, code, limit, actual)
	}
}

// closed reads a close frame and the end of the connection behind it.
func (p *peer) closed(code uint16, reason string) {
	p.t.Helper()
	g, err := p.next()
	if err != nil || g.op != wsframe.Close {
		p.t.Fatalf("%s received %v, %v; want close %d", p.name, g, err, code)
	}
	c, why, err := wsframe.ParseClose([]byte(g.payload))
	if err != nil || c != code || !strings.Contains(why, reason) {
		p.t.Fatalf("%s received close %d %q, %v; want %d %q", p.name, c, why, err, code, reason)
	}
	if g, err := p.next(); err != io.EOF {
		p.t.Fatalf("%s received %v, %v behind the close frame", p.name, g, err)
	}
}

// silent fails when this peer has received anything that it did not read.
func (p *peer) silent() {
	p.t.Helper()
	synctest.Wait()
	if n := p.w.out.unread(); n > 0 {
		p.t.Fatalf("%s received %d bytes: %.100q", p.name, n, p.read(n))
	}
}

// events is a policy whose event key is /type. Types that begin with "p" are
// droppable unless they have a /seq, of priority 1 when they begin with "pp";
// "state" is conflated by /of; "small" may have 20 bytes at most.
func events(t testing.TB, change ...func(*policytest.Funcs)) *policy.Policy {
	f := policytest.Funcs{
		Shape: hostabi.Shape{EventKey: []string{"/type"}, Keep: []string{"/id"}},
		Classify: func(in *hostabi.ClassifyInput) (hostabi.Rule, bool) {
			switch key := string(in.Key); {
			case key == "state":
				return hostabi.Rule{Class: hostabi.Droppable, Conflate: "/of"}, true
			case key == "small":
				return hostabi.Rule{MaxSize: 20}, true
			case strings.HasPrefix(key, "pp"):
				return hostabi.Rule{Class: hostabi.Droppable, Priority: 1}, true
			case strings.HasPrefix(key, "p"):
				return hostabi.Rule{Class: hostabi.Droppable, Unless: "/seq"}, true
			}
			return hostabi.Rule{}, false
		},
		Error: func(in *hostabi.ErrorInput) (hostabi.ErrorOutput, bool) {
			return hostabi.ErrorOutput{Template: `{"gap":{{count}}}`}, in.Code == hostabi.Gap
		},
	}
	for _, c := range change {
		c(&f)
	}
	return policytest.New(t, f)
}

// event is a message of that type, padded to n bytes.
func event(kind string, id, n int, more ...string) string {
	s := fmt.Sprintf(`{"type":%q,"id":%d%s,"pad":"`, kind, id, strings.Join(more, ""))
	return s + strings.Repeat(".", max(0, n-len(s)-2)) + `"}`
}

// metric is the value of the series of name that has these label values.
func (r *rig) metric(name string, labels ...string) float64 {
	r.t.Helper()
	families, err := r.metrics.Registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var has []string
			for _, l := range m.GetLabel() {
				has = append(has, l.GetValue())
			}
			if slices.Equal(has, labels) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	r.t.Fatalf("no series %s%v", name, labels)
	return 0
}

// sleep moves the bubble's clock by ms milliseconds.
func sleep(ms int) { time.Sleep(time.Duration(ms) * time.Millisecond) }
