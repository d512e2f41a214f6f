package relay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weir/hostabi"
	"weir/proxy/flow"
	"weir/proxy/policy"
	"weir/proxy/policy/policytest"
	"weir/proxy/wsframe"
)

// A memo is found by messages that begin with all of its prefix, masked or not.
func TestMemosAreFoundByTheirPrefix(t *testing.T) {
	masks := [][4]byte{{}, {1, 2, 3, 4}, {0xFF, 0, 0x80, 7}}
	for size := memoPrefixMin; size <= memoPrefix; size++ {
		prefix := bytes.Repeat([]byte("abcdefg"), 10)[:size]
		var ms memos
		ms.keep(prefix, "key", &policy.Rule{})
		for _, mask := range masks {
			found := func(payload []byte, more string) bool {
				payload = append(slices.Clone(payload), more...)
				wsframe.Mask(payload, mask, 0)
				return ms.find(payload, spread(mask)) != nil
			}
			if !found(prefix, "and more") || size >= memoMessage && !found(prefix, "") {
				t.Errorf("a prefix of %d bytes is not found, mask %v", size, mask)
			}
			if size > memoMessage && found(prefix[:size-1], "") {
				t.Errorf("a prefix of %d bytes is found without its last, mask %v", size, mask)
			}
			for i := range prefix {
				other := slices.Clone(prefix)
				other[i] ^= 1 << (i & 7)
				if found(other, "and more") {
					t.Errorf("a prefix of %d bytes is found with another byte %d, mask %v", size, i, mask)
				}
			}
		}
	}
}

func TestMemosKeepTheLastFew(t *testing.T) {
	var ms memos
	prefix := func(key int) []byte { return bytes.Repeat([]byte{byte('a' + key)}, memoMessage) }
	for key := range len(ms.of) + 1 {
		ms.keep(prefix(key), fmt.Sprint(key), &policy.Rule{})
	}
	if ms.find(prefix(0), 0) != nil {
		t.Error("the oldest is kept")
	}
	for key := 1; key <= len(ms.of); key++ {
		if m := ms.find(prefix(key), 0); m == nil || m.key != fmt.Sprint(key) {
			t.Errorf("%d: %+v", key, m)
		}
	}
}

// follow stops at the first message that differs in its header or in any byte of
// the prefix that is expected, and at none that differs behind it.
func TestFollow(t *testing.T) {
	const length = 130
	for _, size := range []int{8, 9, 15, 16, 17, 23, 24} {
		a, b := []byte("abcdefghijklmnopqrstuvwxyz")[:size], []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZ")[:size]
		var ms memos
		ms.keep(a, "a", &policy.Rule{})
		ms.keep(b, "b", &policy.Rule{MaxSize: length})
		first, other := &ms.of[0], &ms.of[1]
		first.next, other.next = other, first
		for _, mask := range []*[4]byte{nil, {1, 2, 3, 4}} {
			frame := func(prefix []byte, change, length int) []byte {
				payload := append(bytes.Clone(prefix), bytes.Repeat([]byte("."), length-size)...)
				if change >= 0 {
					payload[change] ^= 0x80
				}
				return wsframe.AppendFrame(nil, wsframe.Text, mask, payload)
			}
			one, two := frame(a, -1, length), frame(b, -1, length)
			header := binary.LittleEndian.Uint32(one)
			count := func(m *memo, most int, frames ...[]byte) (int, *memo) {
				wire := append(slices.Concat(frames...), one[:wsframe.MaxHeader]...)
				return m.follow(wire, header, ^uint32(0), len(one)-length, length, mask != nil, most)
			}
			want := func(what string, n int, last *memo) func(int, *memo) {
				return func(got int, m *memo) {
					t.Helper()
					if got != n || m != last {
						t.Errorf("prefix of %d bytes, mask %v, %s: %d followed, want %d", size, mask, what, got, n)
					}
				}
			}
			for i := range length {
				n, last := 4, first
				if i < size {
					n = 2
				}
				want(fmt.Sprintf("byte %d differs", i), n, last)(count(first, 100, two, one, frame(b, i, length), one))
			}
			want("another length", 2, first)(count(first, 100, two, one, frame(b, -1, length+1), one))
			want("not by turns", 1, other)(count(first, 100, two, two))
			want("enough", 3, other)(count(first, 3, two, one, two, one))
			want("no room for a header behind", 0, first)(first.follow(two, header, ^uint32(0), len(one)-length, length, mask != nil, 100))
			other.most = length - 1
			want("larger than it may be", 0, first)(count(first, 100, two, one))
			other.most = length
			other.used = false
			count(first, 100, two)
			if !other.used {
				t.Errorf("prefix of %d bytes, mask %v: what was used is not noted", size, mask)
			}
		}
	}
}

// Frames by turns are those of one length that begin with the headers and the
// prefixes of the first few, in their order.
func TestTurns(t *testing.T) {
	for _, size := range []int{2, 4} {
		for kinds := 1; kinds <= 8; kinds++ {
			for step := 26; step <= 60; step += 17 {
				var ms memos
				var frames [][]byte
				known := make([]int, kinds)
				for i := range kinds {
					frame := bytes.Repeat([]byte{byte('a' + i), byte('A' + i)}, step/2+1)[:step]
					known[i] = size + memoPrefixMin + (5*i+step)%(openingSize-size-memoPrefixMin+1)
					ms.keep(frame[size:known[i]], "", &policy.Rule{})
					frames = append(frames, frame)
				}
				for i := range kinds {
					ms.of[i].next = &ms.of[(i+1)%kinds]
				}
				count := func(most int, more ...[]byte) int {
					return ms.of[0].turns(slices.Concat(slices.Concat(frames...), slices.Concat(more...)), kinds, step, size, most)
				}
				for i := range step {
					changed := slices.Clone(frames)
					last := bytes.Clone(frames[kinds-1])
					last[i] ^= 1 << (i & 7)
					changed[kinds-1] = last
					want := 3 * kinds
					if i < known[kinds-1] {
						want = 2*kinds - 1
					}
					if n := count(100, slices.Concat(frames, changed, frames)...); n != want {
						t.Fatalf("%d of %d bytes, byte %d of %d differs: %d, want %d", kinds, step, i, known[kinds-1], n, want)
					}
				}
				if n := count(100, slices.Concat(frames, [][]byte{frames[0][:step-1]})...); n != kinds {
					t.Errorf("%d of %d bytes, the last cut short: %d", kinds, step, n)
				}
				if n := count(1, slices.Concat(frames, frames)...); n != 1 {
					t.Errorf("%d of %d bytes, one is enough: %d", kinds, step, n)
				}
			}
		}
	}
}

// Openings that are longer than what is compared, or frames that are shorter, are
// no turns.
func TestTurnsThatAreNotCompared(t *testing.T) {
	var ms memos
	ms.keep([]byte("abcdefghijklmnopqrstuvw"), "", &policy.Rule{})
	wire := bytes.Repeat([]byte("??abcdefghijklmnopqrstuvw"), 10)
	if n := ms.of[0].turns(wire, 1, 25, 2, 100); n != 0 {
		t.Errorf("of 25 bytes that matter: %d", n)
	}
	ms = memos{}
	ms.keep([]byte("abcdefgh"), "", &policy.Rule{})
	wire = bytes.Repeat([]byte("??abcdefgh............."), 10)
	if n := ms.of[0].turns(wire, 1, 23, 2, 100); n != 0 {
		t.Errorf("of frames of 23 bytes: %d", n)
	}
}

// Messages that are too short for the memo that is expected are no place to look
// for it.
func TestFollowInShortMessages(t *testing.T) {
	var ms memos
	ms.keep([]byte("abcdefgh"), "a", &policy.Rule{})
	ms.keep([]byte("abcdefghijklmnopqrstuvwx"), "b", &policy.Rule{})
	ms.of[0].next = &ms.of[1]
	frame := wsframe.AppendFrame(nil, wsframe.Text, nil, []byte("abcdefghijklmnop"))
	if n, _ := ms.of[0].follow(slices.Concat(frame, frame), binary.LittleEndian.Uint32(frame), 0xFFFF, 2, 16, false, 9); n != 0 {
		t.Errorf("%d followed", n)
	}
}

// Every message is judged by the rule of its own key, and none that is not a whole,
// valid frame, whatever came before: in the same read, in one before it, under
// another policy, or from another tunnel whose buffer it got.
func TestEachIsJudgedByItsOwnKey(t *testing.T) {
	sets := []*Settings{{View: (*policy.Policy)(nil).View("r"), Limits: limits()}}
	for salt := range byte(3) {
		p := events(t, func(f *policytest.Funcs) {
			f.Classify = func(in *hostabi.ClassifyInput) (hostabi.Rule, bool) {
				sum := crc32.ChecksumIEEE(append([]byte{salt, byte(in.Direction)}, in.Key...))
				return hostabi.Rule{Class: hostabi.Droppable, Priority: uint8(sum), MaxSize: []uint64{0, 0, 0, 40, 200}[sum>>8%5]}, true
			}
		})
		sets = append(sets, &Settings{View: p.View("r"), Limits: limits()})
	}
	seeds := rand.New(rand.NewPCG(1, 2))
	alike := 0
	for range 200 {
		seed := seeds.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		b := new(buffer)
		for range 6 {
			set := sets[r.IntN(len(sets))]
			set.Limits.MaxMessageSize = []int64{1 << 20, 60, 125, 126, 300}[r.IntN(5)]
			d := hostabi.Direction(r.IntN(2))
			wire := randomFrames(r, d)
			most := 1 + r.IntN(maxRun)
			want := byItself(set, d, wire, most)
			got, quick := judged(b, set, d, wire, most)
			if !slices.EqualFunc(got, want, sameJudgement) {
				t.Fatalf("seed %d, %d bytes of direction %d: %d messages, or other rules, want %d", seed, len(wire), d, len(got), len(want))
			}
			alike += quick
		}
	}
	if alike < 50_000 {
		t.Errorf("%d messages were not looked at one by one: too little is compared", alike)
	}
}

func sameJudgement(a, b message) bool {
	return a.end == b.end && a.closing == b.closing && a.rule.Class == b.rule.Class && a.rule.Priority == b.rule.Priority && a.rule.MaxSize == b.rule.MaxSize
}

// randomFrames are messages of a few kinds whose keys and what stands before them are
// much alike, of one length and by turns for the most part, some with a byte changed,
// the last not whole.
func randomFrames(r *rand.Rand, d hostabi.Direction) (wire []byte) {
	before := []string{`{"type":"`, `{"type" :"`, `{"a":1,"type":"`, "\n{\t\"type\":\n\"", `{"t":"type","type":"`, `{"x":{"type":"y"},"type":"`, `{"type":1,"a":"`}
	pool := make([]string, 3+r.IntN(8))
	most := 1 + r.IntN(2)*r.IntN(50)
	for i := range pool {
		key := strings.Repeat("k", r.IntN(6+most)) + "ab"[r.IntN(2):][:1]
		pool[i] = before[r.IntN(min(most, len(before)))] + key + `",`
	}
	for range 1 + r.IntN(15) {
		r.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
		kinds := pool[:1+r.IntN(len(pool))]
		length := []int{16 + r.IntN(30), 35 + r.IntN(10), 120 + r.IntN(12), 60 + r.IntN(200)}[r.IntN(4)]
		text := wsframe.Opcode(1 + r.IntN(2))
		for i := range len(kinds) * (1 + r.IntN(8)) {
			kind, size, opcode := kinds[i%len(kinds)], length, text
			switch r.IntN(60) {
			case 0:
				kind = pool[r.IntN(len(pool))]
			case 1:
				size += r.IntN(3) - 1
			case 2:
				opcode ^= wsframe.Text ^ wsframe.Binary
			case 3:
				size = r.IntN(20)
			}
			payload := []byte(kind + strings.Repeat(".", 300))[:size]
			if at := len(kind) - 1 - r.IntN([]int{5, len(kind)}[r.IntN(2)]); r.IntN(20) == 0 && at < size {
				payload[at] ^= 1 << r.IntN(7)
			}
			var mask *[4]byte
			if d == hostabi.ToUpstream {
				mask = &[4]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}
			}
			at := len(wire)
			wire = wsframe.AppendFrame(wire, opcode, mask, payload)
			if r.IntN(1000) == 0 {
				wire[at+r.IntN(2)] ^= 1 << r.IntN(8)
			}
		}
	}
	return wire[:len(wire)-1-r.IntN(min(100, len(wire)-1))]
}

// whole is the next frame of wire, unless it is no whole message or breaks RFC 6455.
func whole(seq *wsframe.Sequence, wire []byte) (h wsframe.Header, end int, ok bool) {
	h, ok, err := wsframe.Parse(wire)
	if !ok || err != nil || seq.Check(&h) != nil || !h.Fin || h.Opcode.IsControl() || h.Length > int64(len(wire)-h.Size) {
		return h, 0, false
	}
	return h, h.Size + int(h.Length), true
}

// byItself judges the messages of wire, most at most, up to the first that is no whole
// one, without a memory of any. Those that are refused are marked as closing.
func byItself(set *Settings, d hostabi.Direction, wire []byte, most int) (ms []message) {
	seq := wsframe.NewSequence(d == hostabi.ToUpstream)
	for at := 0; len(ms) < most; {
		h, size, ok := whole(&seq, wire[at:])
		if !ok {
			break
		}
		payload := bytes.Clone(wire[at+h.Size : at+size])
		wsframe.Mask(payload, h.Mask, 0)
		var key []byte
		if k := set.View.Key(); k != nil {
			key, _ = k.Append(nil, payload) // nil unless it is found
		}
		rule := set.View.Rule(d, key, nil)
		at += size
		refused := h.Length > set.Limits.MaxMessageSize || rule.MaxSize > 0 && h.Length > rule.MaxSize
		ms = append(ms, message{rule: rule, end: at, closing: refused})
	}
	return ms
}

// judged are the same as a pump judges them whose buffer is b, and how many of them
// alike passed over.
func judged(b *buffer, set *Settings, d hostabi.Direction, wire []byte, most int) (ms []message, alike int) {
	route := &Route{Name: "r", Memory: flow.NewBudget(0, nil)}
	route.Store(set)
	tun := New(Options{Route: route, Metrics: sharedMetrics(), Client: Leg{Transport: &null{}}, Upstream: Leg{Transport: &null{}}})
	p := &tun.pumps[d]
	p.set, p.buf = set, b
	p.borrowMemos()
	defer p.returnMemos()
	b.data, b.r, b.w = wire, 0, len(wire)
	b.msgs, b.judged = b.msgs[:0], maxRun-most
	for {
		if n := b.judged; p.plain() {
			p.alike(0)
			alike += b.judged - n
		}
		if b.judged == maxRun {
			break
		}
		h, size, ok := whole(&p.seq, wire[b.r:])
		if !ok {
			break
		}
		rule := p.rule(&h, wire[b.r+h.Size:b.r+size])
		br := p.exceeds(h.Length, rule)
		b.r += size
		b.judge(message{rule: rule, end: b.r, closing: br.code != ""})
	}
	p.noteUsed()
	return p.each(wire[:b.r], b.msgs), alike
}

// What memos answer counts as looked up: a policy with more event keys than it may
// cache does not forget those in use.
func TestKeysInUseStayInACrowd(t *testing.T) {
	inTunnel(t, func(r *rig) {
		view := r.route.Load().View
		said := event("used", 1, 100)
		say := func() {
			r.c.send(said)
			r.u.expect(said)
		}
		say()
		view.Rule(hostabi.ToUpstream, []byte("not used"), nil)
		for second := range 30 {
			for i := range 5000 {
				view.Rule(hostabi.ToUpstream, fmt.Appendf(nil, "%d of %d", i, second), nil)
			}
			say()
			sleep(1000)
		}
		if view.Cached(hostabi.ToUpstream, []byte("not used")) != nil {
			t.Error("a key that is not used is kept")
		}
		if view.Cached(hostabi.ToUpstream, []byte("used")) == nil {
			t.Error("a key in use is forgotten")
		}
	}, under(events(t)))
}

// What was passed alike may have to be looked up again, one by one, under the lock
// of what goes out: then no guest is asked, also when the memo and the rule that it was
// of are both forgotten by then.
func TestNoGuestIsAskedUnderTheLockOfASink(t *testing.T) {
	var view atomic.Pointer[policy.View]
	var sink atomic.Pointer[sink]
	asked := func(in *hostabi.ClassifyInput) {
		if s := sink.Load(); s != nil {
			for n := 0; !s.mu.TryLock(); n++ { // a writer may hold it for a moment
				if n == 1e6 {
					t.Errorf("asked about %s under the lock", in.Key)
					return
				}
				runtime.Gosched()
			}
			s.mu.Unlock()
		}
		if string(in.Key) != "crowd" || in.Route != "r" {
			return
		}
		for second := range 3 { // what nobody looks up meanwhile is forgotten
			for i := range hostabi.MaxCachedKeys {
				view.Load().Rule(hostabi.ToUpstream, fmt.Appendf(nil, "%d of %d", i, second), nil)
			}
			time.Sleep(10 * time.Second)
		}
	}
	inTunnel(t, func(r *rig) {
		view.Store(r.route.Load().View)
		sink.Store(&r.legs[hostabi.ToClient].sink)
		var sent []string
		for _, kind := range strings.Fields("a a a crowd b c d e f g h i j") {
			sent = append(sent, event(kind, len(sent), 200))
		}
		var wire []byte
		for _, s := range sent {
			wire = append(wire, r.c.frame(true, wsframe.Text, s)...)
		}
		r.c.raw(wire)
		sleep(60_000)
		r.u.expect(sent...)
		sink.Store(nil)
	}, kernel(300), func(s *setup) {
		under(events(t, func(f *policytest.Funcs) {
			classify := f.Classify
			f.Classify = func(in *hostabi.ClassifyInput) (hostabi.Rule, bool) {
				asked(in)
				return classify(in)
			}
		}))(s)
	})
}
